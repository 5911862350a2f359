//! The look of the dashboard: light and dark, wide and narrow, on paper too.

/// Contrast of text is at least 4.5 to 1 in both colour schemes.
pub(crate) const CSS: &str = r#"
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#57606a;--line:#d8dee4;
--good:#1a7f37;--goodbg:#e6f4ea;--warn:#8a5a00;--warnbg:#fff4d6;--bad:#b3261e;--badbg:#fde8e6;
--d0:#e4e8ec;--d1:#9bd8ab;--d2:#4fb96e;--d3:#1f7a3a;--bar:#3a6ea5}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#171c23;--ink:#e8ecf1;--soft:#a3adb8;--line:#2b333d;
--good:#5fd07f;--goodbg:#12301c;--warn:#f0bd4f;--warnbg:#33270c;--bad:#ff8f87;--badbg:#3a1512;
--d0:#252c35;--d1:#1d5a31;--d2:#2f9151;--d3:#6bdc8f;--bar:#7fb2e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1000px;margin:0 auto;padding:16px}
section,header{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 20px;margin:0 0 16px}
header{border-left:10px solid var(--good);background:var(--goodbg)}
header.warning{border-left-color:var(--warn);background:var(--warnbg)}
header.critical{border-left-color:var(--bad);background:var(--badbg)}
h1{font-size:1.5rem;line-height:1.3;margin:0;display:flex;gap:.6rem}
h1 .sign{flex:none}
.ok .sign,.sign.ok{color:var(--good)}.warning .sign,.sign.warning{color:var(--warn)}.critical .sign,.sign.critical{color:var(--bad)}
h2{font-size:1rem;margin:0 0 10px}
p{margin:.4rem 0 0}
ul.fix{list-style:none;margin:12px 0 0;padding:0}
ul.fix li{margin:4px 0}
code{font:.9em ui-monospace,Menlo,Consolas,monospace;background:var(--bg);border:1px solid var(--line);border-radius:6px;padding:1px 6px;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:6px 12px 6px 0;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.85rem}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.soft{color:var(--soft)}
.trust{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px}
.trust>div{border:1px solid var(--line);border-radius:8px;padding:10px 12px}
.trust b{display:block}
svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto;direction:rtl}.scroll svg{direction:ltr;min-width:600px}
svg text{fill:var(--soft);font:10px system-ui,sans-serif}
.none{fill:var(--d0)}.before{fill:var(--d0);opacity:.4}.s1{fill:var(--d1)}.s2{fill:var(--d2)}.s3{fill:var(--d3)}
.partial{fill:var(--warn)}.failed{fill:var(--bad)}.missed{fill:url(#hatch)}
#hatch path{stroke:var(--bad)}#hatch rect{fill:var(--d0)}
.mark{fill:none;stroke:var(--card);stroke-width:1.6}.grid{stroke:var(--line)}
.growth{fill:none;stroke:var(--bar);stroke-width:2}.area{fill:var(--bar);opacity:.15}.budget{stroke:var(--bad);stroke-dasharray:4 3}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:8px;font-size:.85rem;color:var(--soft)}
.legend span{display:flex;align-items:center;gap:6px}
.legend svg{width:12px;height:12px;flex:none}
.when{white-space:nowrap}
td.cmd{overflow-wrap:anywhere}
footer{color:var(--soft);font-size:.85rem;max-width:1000px;margin:0 auto;padding:0 20px 24px}
@media(max-width:600px){.chart text{font-size:17px}main{padding:8px}section,header{padding:12px 14px}h1{font-size:1.2rem}
table.wide thead{position:absolute;left:-9999px}
table.wide tr{display:block;border-top:1px solid var(--line);padding:6px 0}
table.wide td,table.wide th[scope=row]{display:flex;justify-content:space-between;gap:12px;border:0;padding:2px 0;text-align:right}
table.wide td>span{min-width:0;overflow-wrap:anywhere}.when{white-space:normal}
table.wide td::before{content:attr(data-label);flex:none;color:var(--soft);text-align:left}}
@media print{body{background:#fff}section,header{break-inside:avoid}}
"#;
