/** The style sheet of the report page: light and dark, a phone's width and a wide screen's, print. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1b1f24; --soft: #5b6570; --line: #dfe3e8;
  --good: #1a7f37; --good-paper: #e6f4ea; --bad: #c62828; --bad-paper: #fdecea;
  --dot: #0969da; --silence: rgba(198, 40, 40, 0.10); --window: rgba(9, 105, 218, 0.12);
  --fault: #c62828; --suspicion: #8f5600; --claim: #7a3ed1; --runs: #1a7f37;
  --answers: #0969da; --protected: #0b7285; --note: #67707b; --number: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1318; --card: #171c23; --ink: #e7ebf0; --soft: #9aa5b1; --line: #2c343e;
    --good: #56d364; --good-paper: #12261a; --bad: #ff7b72; --bad-paper: #2d1517;
    --dot: #58a6ff; --silence: rgba(255, 123, 114, 0.14); --window: rgba(88, 166, 255, 0.16);
    --fault: #ff7b72; --suspicion: #e3b341; --claim: #c297ff; --runs: #56d364;
    --answers: #58a6ff; --protected: #39c5cf; --note: #8b949e; --number: #0f1318;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 64px; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: 3px; }
h1 { font-size: clamp(26px, 5vw, 38px); line-height: 1.15; margin: 4px 0 10px; }
h2 { font-size: 21px; margin: 0; overflow-wrap: anywhere; }
.kicker { color: var(--soft); margin: 0; font-size: 14px; }
.banner { border-left: 6px solid var(--good); background: var(--good-paper); padding: 18px 20px;
  border-radius: 6px; }
.banner.bad { border-color: var(--bad); background: var(--bad-paper); }
.banner.none { border-color: var(--soft); background: var(--card); }
.banner p { margin: 0; max-width: 74ch; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 20px 0 28px; }
.facts div, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.facts div { padding: 10px 14px; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 23px; font-variant-numeric: tabular-nums; }
dd small { color: var(--soft); font-size: 14px; }
dd.bad { color: var(--bad); }
.card { padding: 18px; margin: 0 0 20px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); margin-bottom: 28px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
td.bad { color: var(--bad); font-weight: 700; }
td.spread { padding-block: 3px; }
.what { color: var(--soft); margin: 2px 0 12px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 0 0 6px; padding: 0;
  list-style: none; font-size: 14px; }
.chips b { font-variant-numeric: tabular-nums; }
.chips span { color: var(--soft); }
.stories { background: var(--bad-paper); border-left: 4px solid var(--bad); padding: 10px 14px;
  border-radius: 4px; margin: 12px 0; }
.stories pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0; font-size: 12.5px; }
.drills { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  gap: 18px; margin-top: 14px; }
time { white-space: nowrap; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 14px; font-weight: 600; margin-bottom: 4px; }
ol.marks { margin: 4px 0 0; padding: 0; list-style: none; font-size: 13.5px; }
ol.marks li { display: grid; grid-template-columns: 22px 74px 1fr; gap: 6px; padding: 2px 0; }
ol.marks i { font-style: normal; font-size: 11px; line-height: 18px; height: 18px; width: 18px;
  border-radius: 9px; text-align: center; color: var(--number);
  background: var(--kind, var(--note)); }
ol.marks time { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
summary { cursor: pointer; padding: 8px 0; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
.axis { font-size: 11px; fill: var(--soft); }
.axis.end { text-anchor: end; }
.axis.middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; }
.base, .tick { stroke: var(--soft); stroke-width: 1; fill: none; }
.dots { stroke: var(--dot); stroke-width: 3; stroke-linecap: round; stroke-opacity: 0.75; }
.small .dots { stroke-width: 1.8; stroke-opacity: 0.6; }
.dots.unanswered { stroke: var(--fault); }
.silence { fill: var(--silence); }
.window { fill: var(--window); }
.took { font-size: 13px; font-weight: 600; fill: var(--ink); text-anchor: middle;
  paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.mark { fill: none; stroke-width: 1.4; stroke: var(--kind, var(--note)); stroke-dasharray: 3 2; }
.number { font-size: 11px; font-weight: 700; fill: var(--number); text-anchor: middle; }
.flag { fill: var(--kind, var(--note)); }
.fault { --kind: var(--fault); }
.suspicion { --kind: var(--suspicion); }
.claim { --kind: var(--claim); }
.runs { --kind: var(--runs); }
.answers { --kind: var(--answers); }
.protected { --kind: var(--protected); }
.spread-dots { stroke: var(--dot); stroke-width: 5; stroke-linecap: round; stroke-opacity: 0.5; }
.spread-half { stroke: var(--ink); stroke-width: 2; }
svg.spread { width: 170px; height: 22px; }
footer { color: var(--soft); font-size: 13.5px; margin-top: 32px; overflow-wrap: anywhere; }
footer dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 8px 0; }
footer dd { font-size: inherit; }
@media (min-width: 900px) {
  .drills figure:only-child { grid-column: 1 / -1; display: grid; gap: 0 28px;
    grid-template-columns: minmax(0, 6fr) minmax(0, 5fr); }
  .drills figure:only-child figcaption { grid-column: 1 / -1; }
  .drills figure:only-child ol.marks { margin-top: 12px; }
}
@media (max-width: 520px) {
  main { padding: 12px 10px 48px; }
  .card { padding: 14px 12px; }
  .facts { grid-template-columns: 1fr 1fr; }
  .axis { font-size: 13px; } .number { font-size: 12px; }
}
@media print { .card, .scroll { break-inside: avoid; } details > * { display: block; } }
`;
