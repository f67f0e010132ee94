"""Draw panels of a dashboard from a running Prometheus; `docs/grafana.md` says how."""

import argparse
import json
import re
import subprocess
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DASHBOARDS = HERE.parents[1] / "grafana" / "dashboards"
MODULES = ("@grafana/ui", "@grafana/data")
PAGE = (
    '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">'
    '<body><div id="root"></div>'
)
# Each picture: its dashboard, its time range in days, and its panels with their width and height.
PICTURES: dict[str, tuple[str, float, list[tuple[str, int, int]]]] = {
    "model": (
        "model",
        30,
        [
            *(("Health", 5, 4), ("Unhealthy since", 4, 4), ("What to do", 6, 4)),
            *(("Open incidents", 3, 4), ("Retraining request", 3, 4), ("Newest result", 3, 4)),
            ("Open incidents: where, since when, what to do", 15, 13),
            ("Drift over its threshold, now", 9, 13),
            ("$metric on labelled rows, with its interval", 12, 8),
            ("$metric estimated before labels, with its interval", 12, 8),
        ],
    ),
    "slices": (
        "slices",
        30,
        [
            *(("Critical slices beyond their limit", 6, 4), ("Worst slice by $metric", 6, 4)),
            *(("Open incidents of slices and groups", 6, 4), ("Fairness", 6, 4)),
            ("$metric of the 10 worst slices", 14, 9),
            ("Room of critical slices to their limit", 10, 9),
        ],
    ),
}


def asked(url: str, query: dict[str, Any], values: dict[str, str], days: float) -> list[Any]:
    """Return what Prometheus says to a panel's query."""
    span = timedelta(days=days)
    step = span / 360
    expr = query["expr"].replace("$__rate_interval", "1m")
    for name, length in (("range", span), ("interval", step)):
        expr = expr.replace(f"$__{name}", f"{length.total_seconds():.0f}s")
    for name, value in values.items():
        expr = re.sub(rf"\${name}\b", value, expr)
    end = datetime.now(UTC)
    parameters = {"query": expr, "start": (end - span).timestamp(), "end": end.timestamp()}
    path = "query" if query.get("instant") else "query_range"
    address = urllib.parse.urlencode({**parameters, "step": step.total_seconds()})
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{address}") as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def series(found: list[Any], legend: str) -> list[dict[str, Any]]:
    """Return series as the page draws them, named by their legend."""
    shown = []
    for each in found:
        name = legend
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            name = name.replace(f"{{{{{label}}}}}", each["metric"].get(label, ""))
        points = each.get("values") or [each["value"]]
        times, values = zip(*((t * 1000, float(v)) for t, v in points), strict=True)
        shown.append({"name": name, "times": times, "values": values})
    return shown


def columns(panel: dict[str, Any], found: list[list[Any]]) -> list[dict[str, Any]]:
    """Return a table's columns, merged, organised and sorted as its panel says."""
    options = panel["transformations"][-1]["options"]
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    named = [{name for each in result for name in each["metric"]} for result in found if result]
    key = sorted(set.intersection(*named)) if named else []
    for query, result in zip(panel["targets"], found, strict=True):
        value = f"Value #{query['refId']}" if len(found) > 1 else "Value"
        for each in result:
            row = merged.setdefault(tuple(each["metric"].get(name, "") for name in key), {})
            row |= {**each["metric"], value: float(each["value"][1])}
    cells = list(merged.values())
    order = sorted(options["indexByName"], key=options["indexByName"].__getitem__)
    old = {new: name for name, new in options["renameByName"].items()}
    for each in reversed(panel["options"]["sortBy"]):
        values = [cell.get(old[each["displayName"]], 0) for cell in cells]
        places = sorted(range(len(cells)), key=values.__getitem__, reverse=each["desc"])
        cells = [cells[place] for place in places]
    return [
        {
            "name": options["renameByName"].get(name, name),
            "values": [cell.get(name, "") for cell in cells],
        }
        for name in order
    ]


def drawn(
    name: str, prometheus: str, values: dict[str, str], width: int, mode: str
) -> dict[str, Any]:
    """Return everything that the page needs for a picture."""
    dashboard, days, wanted = PICTURES[name]
    document = json.loads((DASHBOARDS / f"{dashboard}.json").read_text())
    by_title = {p["title"]: p for p in document["panels"] if p["type"] != "row"}
    panels, x, y = [], 0, 0
    for title, w, h in wanted:
        panel = by_title[title]
        one: dict[str, Any] = {"panel": panel, "place": {"x": x, "y": y, "w": w, "h": h}}
        one["title"] = re.sub(r"\$(\w+)", lambda m: values[m[1]], title)
        found = [asked(prometheus, query, values, days) for query in panel["targets"]]
        if panel["type"] == "table":
            one["columns"] = columns(panel, found)
        else:
            legends = [query["legendFormat"].replace("__auto", "") for query in panel["targets"]]
            text = json.dumps(panel)
            one["panel"] = json.loads(re.sub(r"\$metric", values["metric"], text))
            one["series"] = [
                each
                for result, legend in zip(found, legends, strict=True)
                for each in series(result, legend.replace("$metric", values["metric"]))
            ]
        panels.append(one)
        x = (x + w) % 24
        y += h if x == 0 else 0
    end = datetime.now(UTC)
    start = end - timedelta(days=days)
    return {
        "mode": mode,
        "width": width,
        "height": y * 38 + 4,
        "panels": panels,
        "from": start.isoformat(),
        "to": end.isoformat(),
    }


def main() -> None:
    """Build the page beside the installed components, and let Chromium take its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", choices=PICTURES)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--modules", type=Path, required=True, help="where npm installed")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--mode", default="light")
    parser.add_argument("--width", type=int, default=1680)
    parser.add_argument("--choose", nargs="*", default=[], help="variables, as model=loans")
    given = parser.parse_args()
    values = {"job": ".+", "metric": "roc_auc", "feature": ".+", "slice": ".+"}
    values |= dict(choice.split("=", 1) for choice in given.choose)
    found = drawn(given.picture, given.prometheus, values, given.width, given.mode)
    folder = given.modules
    (folder / "page.tsx").write_text((HERE / "page.tsx").read_text())
    subprocess.run(
        [
            *("npx", "esbuild", "page.tsx", "--bundle", "--outfile=page.js", "--minify"),
            *("--jsx=automatic", '--define:process.env.NODE_ENV="production"'),
            *(
                "--loader:.svg=dataurl",
                "--loader:.ttf=dataurl",
                "--loader:.woff=empty",
                "--loader:.woff2=dataurl",
                "--log-level=error",
            ),
            # The modules for bundlers get what is CommonJS below them wrong.
            *(
                f"--alias:@grafana/{name}=./node_modules/@grafana/{name}/dist/cjs/index.cjs"
                for name in ("ui", "data")
            ),
        ],
        cwd=folder,
        check=True,
    )
    script = f"const DRAWN = {json.dumps(found)};".replace("</", "<\\/")
    page = folder / "page.html"
    page.write_text(f'{PAGE}<script>{script}</script><script src="page.js"></script>')
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--allow-file-access-from-files", "--virtual-time-budget=15000"),
            *(f"--window-size={given.width},{found['height']}", f"--screenshot={given.output}"),
            page.as_uri(),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
