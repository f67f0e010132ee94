# One image; the command says which process it is: serve, worker or migrate.
FROM python:3.13-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY service ./service
COPY migrations ./migrations
RUN python -m venv /opt/modelwatch \
 && /opt/modelwatch/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent modelwatch
COPY --from=build /opt/modelwatch /opt/modelwatch
ENV PATH=/opt/modelwatch/bin:$PATH PYTHONUNBUFFERED=1 MODELWATCH_HOST=0.0.0.0
USER modelwatch
EXPOSE 8080
ENTRYPOINT ["modelwatch"]
CMD ["serve"]
