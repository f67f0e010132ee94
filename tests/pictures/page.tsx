// Panels of a dashboard, drawn with Grafana's own components from what draw.py has asked for.
import { createTheme, dateTime, FieldType, getDisplayProcessor, toDataFrame } from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries } from '@grafana/ui';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import 'uplot/dist/uPlot.min.css';
import React from 'react';
import { createRoot } from 'react-dom/client';

declare const DRAWN: any;
const theme = createTheme({ colors: { mode: DRAWN.mode } });
const COLUMN = DRAWN.width / 24;
const ROW = 38;
const range = { from: dateTime(DRAWN.from), to: dateTime(DRAWN.to), raw: { from: '', to: '' } };

function put(config: any, id: string, value: any) {
  const path = id.split('.');
  const last = path.pop()!;
  const inner = path.reduce((at, name) => (at[name] = { ...at[name] }), config);
  inner[last] = value;
}

function configured(panel: any, name: string) {
  const config = structuredClone(panel.fieldConfig.defaults);
  for (const override of panel.fieldConfig.overrides) {
    const { id, options } = override.matcher;
    if (options === name || (id === 'byRegexp' && options === '/.*/')) {
      override.properties.forEach((each: any) => put(config, each.id, each.value));
    }
  }
  return config;
}

function display(field: any) {
  field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  return field;
}

function field(panel: any, name: string, type: FieldType, values: any[]) {
  return display({ name, type, values, config: configured(panel, name), state: {} });
}

function Tile({ panel, series, width, height }: any) {
  const shown = series.length ? series : [{ name: '', values: [null] }];
  const { colorMode, justifyMode, textMode } = panel.options;
  return (
    <div style={{ display: 'flex', gap: 4 }}>
      {shown.map((each: any) => {
        const made = field(panel, each.name, FieldType.number, each.values);
        const value = made.display(each.values.at(-1));
        const title = made.config.displayName ?? each.name;
        return (
          <BigValue
            key={each.name}
            value={{ ...value, title: textMode.includes('name') ? title : undefined }}
            colorMode={colorMode}
            textMode={series.length && textMode !== 'auto' ? textMode : 'value'}
            justifyMode={justifyMode}
            graphMode={'none' as any}
            theme={theme}
            width={(width - 4 * (shown.length - 1)) / shown.length}
            height={height}
          />
        );
      })}
    </div>
  );
}

function Lines({ panel, series, width, height }: any) {
  const frames = series.map((each: any, index: number) => {
    const made = field(panel, each.name, FieldType.number, each.values);
    const time = display({ name: 'time', type: FieldType.time, values: each.times, config: {} });
    const frame = toDataFrame({ fields: [time, made] });
    frame.fields[1].state = { seriesIndex: index };
    display(frame.fields[1]);
    return frame;
  });
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      timeRange={range}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
    />
  );
}

function Bars({ panel, series, width, height }: any) {
  const sorted = [...series].sort((one, other) => other.values.at(-1) - one.values.at(-1));
  const tall = height / sorted.length - 4;
  const top = Math.max(...sorted.map((each) => each.values.at(-1)));
  const longest = sorted.map((each) => each.name).sort((one, other) => other.length - one.length)[0];
  return sorted.map((each) => {
    const made = field(panel, each.name, FieldType.number, each.values);
    made.config = { ...made.config, max: panel.fieldConfig.defaults.max ?? top };
    display(made);
    return (
      <div key={each.name} style={{ marginBottom: 4 }}>
        <BarGauge
          field={made.config}
          display={made.display}
          value={{ ...made.display(each.values.at(-1)), title: each.name }}
          theme={theme}
          alignmentFactors={{ title: longest, text: '0.00000' }}
          orientation={panel.options.orientation}
          displayMode={panel.options.displayMode}
          width={width}
          height={tall}
          itemSpacing={4}
          lcdCellWidth={12}
        />
      </div>
    );
  });
}

function Rows({ panel, columns, width, height }: any) {
  const fields = columns.map(({ name, values }: any) =>
    field(panel, name, typeof values[0] === 'number' ? FieldType.number : FieldType.string, values)
  );
  return <Table data={toDataFrame({ fields })} width={width} height={height} />;
}

// What Grafana says in the middle of a panel without data.
function Nothing({ panel }: any) {
  const style = { height: '100%', display: 'flex', alignItems: 'center', justifyContent: 'center' };
  return <div style={style}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

const KINDS: any = { stat: Tile, timeseries: Lines, bargauge: Bars, table: Rows };

function Panel({ drawn }: any) {
  const { panel } = drawn;
  const { x, y, w, h } = drawn.place;
  const size = { width: w * COLUMN - 8, height: h * ROW - 8 };
  const empty = !(drawn.series ?? drawn.columns?.[0]?.values ?? []).length;
  const Kind = empty && panel.type !== 'stat' ? Nothing : KINDS[panel.type];
  return (
    <div style={{ position: 'absolute', left: x * COLUMN + 4, top: y * ROW + 4 }}>
      <PanelChrome title={drawn.title} padding="sm" {...size}>
        {(width, height) => <Kind {...drawn} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

document.body.style.background = theme.colors.background.canvas;
const page = (
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    {DRAWN.panels.map((drawn: any) => (
      <Panel key={drawn.panel.id} drawn={drawn} />
    ))}
  </ThemeContext.Provider>
);
// The components measure their texts: the font must be there.
Promise.all(['400', '500'].map((weight) => document.fonts.load(`${weight} 14px Inter`))).then(() =>
  createRoot(document.getElementById('root')!).render(page)
);
