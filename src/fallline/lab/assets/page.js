// The interactive chart: what is shown is a pure function of `state` and the embedded data.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const chart = document.getElementById("chart");
  const legend = document.getElementById("legend");
  const DASHES = [[], [], [9, 4], [2, 4], [9, 4], [11, 4, 2, 4], [2, 4], [16, 4], [16, 4], [11, 4, 2, 4]];
  const kinds = ["tuned", "default"].filter((kind) => Object.keys(data.series[kind]).length);
  if (!kinds.length) {
    document.getElementById("curves").hidden = true;
    return;
  }
  const present = data.quantities.filter((q) =>
    kinds.some((kind) => Object.values(data.series[kind]).some((curves) => curves[q.key])));
  const state = {
    quantity: present[0].key,
    axis: "epochs",
    scale: present[0].log ? "log" : "linear",
    kind: kinds[0],
    spread: true,
    hidden: new Set(),
  };
  const whole = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5, 6].map((k) => m * 10 ** k)).sort((a, b) => a - b);
  let plot = null;
  let shown = []; // names, in the order of the plot's series

  const colour = (k) => getComputedStyle(document.body).getPropertyValue(`--c${k % 10}`).trim();
  const tone = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const isPercent = () => data.percent && state.quantity === data.metric;
  const format = (v) => {
    if (v == null) return "\u2013";
    return isPercent() ? (100 * v).toFixed(2) + "%" : Number(v.toPrecision(3)).toString();
  };

  function interpolate(x, y, at) {
    // y over increasing x, at each of `at`; null outside and beside a null.
    let k = 0;
    return at.map((t) => {
      if (t < x[0] || t > x[x.length - 1]) return null;
      while (k < x.length - 2 && x[k + 1] < t) k++;
      if (y[k] == null || y[k + 1] == null) return t === x[k] ? y[k] : null;
      const width = x[k + 1] - x[k];
      return width > 0 ? y[k] + ((t - x[k]) / width) * (y[k + 1] - y[k]) : y[k];
    });
  }

  function table() {
    // uPlot's columns: one x, then median, low and high of every optimizer.
    const all = data.series[state.kind];
    shown = data.order.filter((name) => all[name] && all[name][state.quantity]);
    const curves = shown.map((name) => all[name][state.quantity]);
    if (!curves.length) return [[0]];
    if (state.axis !== "seconds") {
      const scale = state.axis === "epochs" ? 1 / data.steps_per_epoch : 1;
      return [curves[0].x.map((v) => v * scale), ...curves.flatMap((c) => [c.m, c.lo, c.hi])];
    }
    const times = shown.map((name, k) => {
      const clock = data.clock[state.kind][name];
      return interpolate(clock.x, clock.s, curves[k].x).map((t, i, ts) => t ?? (ts[i - 1] ?? 0));
    });
    const longest = Math.max(...times.map((t) => t[t.length - 1]));
    const x = Array.from({ length: 400 }, (_, k) => ((k + 1) * longest) / 400);
    return [x, ...curves.flatMap((c, k) => [c.m, c.lo, c.hi].map((y) => interpolate(times[k], y, x)))];
  }

  function limits(u, _min, _max) {
    // The whole of what is good, and of what is bad only what remains after the first fifth.
    const values = [];
    shown.forEach((name, k) => {
      if (state.hidden.has(name)) return;
      const y = u.data[1 + 3 * k];
      y.slice(Math.floor(y.length / 5)).forEach((v) => v != null && values.push(v));
      const ends = y.filter((v) => v != null);
      if (ends.length) values.push(isPercent() ? Math.max(...ends) : Math.min(...ends));
    });
    const log = state.scale === "log";
    const usable = log ? values.filter((v) => v > 0) : values;
    if (!usable.length) return log ? [0.1, 1] : [0, 1];
    let low = Math.min(...usable), high = Math.max(...usable);
    if (log) {
      const room = Math.max(Math.pow(high / low, 0.06), 1.05);
      return [low / room, high * room];
    }
    const room = 0.06 * (high - low) || 0.01;
    high += room;
    return [low - room, isPercent() ? Math.min(high, 1) : high];
  }

  function sparse(u, ticks) {
    // On a log scale as many round numbers of each decade as there is room for.
    if (state.scale !== "log") return ticks;
    const decades = Math.log10(u.scales.y.max / u.scales.y.min);
    const round = decades > 4 ? /^1e/ : decades > 1.5 ? /^[125]e/ : /^[12357]e/;
    return ticks.map((v) => (v != null && round.test(v.toExponential()) ? v : null));
  }

  function translucent(hex, alpha) {
    const n = parseInt(hex.slice(1), 16);
    return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
  }

  function draw() {
    const columns = table();
    const series = [{}], bands = [];
    shown.forEach((name, k) => {
      const index = data.order.indexOf(name), show = !state.hidden.has(name);
      const line = colour(index);
      const edge = { show: show && state.spread, width: 0, stroke: "transparent", points: { show: false } };
      series.push(
        { label: name, show, stroke: line, width: 2, dash: DASHES[index % 10], points: { show: false } },
        { ...edge, label: name + " lower quartile" }, { ...edge, label: name + " upper quartile" });
      bands.push({ series: [3 * k + 3, 3 * k + 2], fill: translucent(line, shown.length > 5 ? 0.1 : 0.16) });
    });
    const narrow = chart.clientWidth < 560;
    const axis = {
      stroke: tone("--quiet"), font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      grid: { stroke: tone("--rule"), width: 1 }, ticks: { show: false },
    };
    const title = data.quantities.find((q) => q.key === state.quantity).title;
    const options = {
      width: chart.clientWidth,
      height: narrow ? 300 : 400,
      legend: { show: false },
      focus: { alpha: 0.18 },
      cursor: { focus: { prox: 14 }, points: { size: 7 }, drag: { x: true, y: true, uni: 24 }, y: false },
      scales: {
        x: { time: false },
        y: { distr: state.scale === "log" ? 3 : 1, range: limits },
      },
      axes: [
        {
          ...axis, label: state.axis === "seconds" ? "seconds of training" : state.axis, labelSize: 22, size: 32,
          ...(state.axis === "seconds" ? {} : { incrs: whole }),
        },
        {
          ...axis, label: narrow ? undefined : title.toLowerCase(), labelSize: 22, size: isPercent() ? 58 : 54,
          filter: sparse,
          values: (u, ticks) => ticks.map((v) => (v == null ? "" : isPercent() ? +(100 * v).toPrecision(4) + "%" : +v.toPrecision(3))),
        },
      ],
      series, bands,
      hooks: { setCursor: [(u) => values(u.cursor.idx)] },
    };
    if (plot) plot.destroy();
    plot = new uPlot(options, columns, chart);
    chips();
    values(null);
  }

  function values(at) {
    // Each name's value under the cursor, or its last one.
    shown.forEach((name, k) => {
      const column = plot.data[1 + 3 * k];
      let value = at == null ? null : column[at];
      if (at == null) for (let i = column.length - 1; i >= 0 && value == null; i--) value = column[i];
      const chip = legend.querySelector(`[data-index="${k}"] output`);
      if (chip) chip.textContent = format(value);
    });
  }

  function chips() {
    legend.replaceChildren(...data.ranked.filter((name) => shown.includes(name)).map((name) => {
      const k = shown.indexOf(name), index = data.order.indexOf(name);
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = `chip c${index % 10}`;
      chip.dataset.index = k;
      chip.setAttribute("aria-pressed", String(!state.hidden.has(name)));
      chip.innerHTML = `<svg class="key k${index % 10}" width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5"/></svg>`;
      chip.append(name, document.createElement("output"));
      chip.addEventListener("click", (event) => toggle(name, event.detail === 2));
      chip.addEventListener("mouseenter", () => plot.setSeries(1 + 3 * k, { focus: true }));
      chip.addEventListener("mouseleave", () => plot.setSeries(null, { focus: true }));
      return chip;
    }));
  }

  function toggle(name, alone) {
    if (alone) {
      const others = shown.filter((other) => other !== name);
      const already = others.every((other) => state.hidden.has(other));
      state.hidden = new Set(already ? [] : others);
    } else if (!state.hidden.delete(name)) {
      state.hidden.add(name);
    }
    shown.forEach((other, k) => {
      const show = !state.hidden.has(other);
      plot.setSeries(1 + 3 * k, { show }, false);
      plot.setSeries(2 + 3 * k, { show: show && state.spread }, false);
      plot.setSeries(3 + 3 * k, { show: show && state.spread }, false);
      legend.querySelector(`[data-index="${k}"]`).setAttribute("aria-pressed", String(show));
    });
    plot.setData(plot.data);
  }

  function choices(name, options) {
    const box = document.querySelector(`.seg[data-name="${name}"]`);
    box.replaceChildren(...options.map(([value, text]) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value, checked: state[name] === value });
      const span = document.createElement("span");
      span.textContent = text;
      label.append(input, span);
      input.addEventListener("change", () => {
        state[name] = value;
        if (name === "quantity") {
          state.scale = present.find((q) => q.key === value).log ? "log" : "linear";
          document.querySelector(`.seg input[name="scale"][value="${state.scale}"]`).checked = true;
        }
        draw();
      });
      return label;
    }));
  }

  choices("quantity", present.map((q) => [q.key, q.title]));
  choices("axis", [["epochs", "epochs"], ["steps", "steps"], ["seconds", "seconds"]]);
  choices("scale", [["linear", "linear"], ["log", "log"]]);
  choices("kind", kinds.map((kind) => [kind, kind === "default" ? "untuned" : "tuned"]));
  document.getElementById("spread").addEventListener("change", (event) => {
    state.spread = event.target.checked;
    draw();
  });
  draw();

  let width = chart.clientWidth;
  new ResizeObserver(() => {
    if (chart.clientWidth === width) return;
    width = chart.clientWidth;
    draw();
  }).observe(chart);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // Paper is white: print in the light colours, with everything unfolded.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    draw();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    draw();
  });
})();
