// Three ways out of the page's state: its address, commands, Python. All give the same path.
const python = (v) => (v === true ? "True" : v === false ? "False" : String(v));
const quoted = (text) => (/^[\w.,:/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

function waysOf(state) {
  const seeded = (rule) => state.noise || DATA.rules[rule].draws > 0;
  const noisy = state.noise !== state.ground.noise, start = state.start.join(",");
  const commands = state.entries.map(({ rule, hypers }) => {
    const set = Object.entries(hypers).map(([n, v]) => ` --set ${n}=${v}`).join("");
    const noise = (noisy ? ` --noise ${state.noise}` : "") + (seeded(rule) ? ` --seed ${state.seed}` : "");
    return `steprule trace ${quoted(DATA.rules[rule].spec)} --surface ${quoted(state.surface)} --start=${start} --steps ${state.steps} --defaults${noise}${set}`;
  });
  const lines = state.entries.map(({ rule, hypers }) => {
    const set = Object.entries(hypers).map(([n, v]) => `, ${n}=${python(v)}`).join("");
    const noise = (noisy ? `, noise=${state.noise}` : "") + (seeded(rule) ? `, seed=${state.seed}` : "");
    return `steprule.trace(${JSON.stringify(DATA.rules[rule].spec)}, ${JSON.stringify(state.surface)}, start=(${state.start.join(", ")}), steps=${state.steps}${noise}${set})`;
  });
  return [
    { title: t("Permalink"), text: `${location.href.split("#")[0]}#${writeState(state)}` },
    { title: t("Commands"), text: commands.join("\n") },
    { title: "Python", text: `import steprule\n\npaths = [\n${lines.map((l) => `    ${l},`).join("\n")}\n]` },
  ];
}
