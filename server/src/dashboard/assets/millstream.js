// What pages gain from a script: hover and keys on charts, zoom, live figures, the live tail, light or dark.
// Everything else works without it. Texts reach the page as text, never as markup.
'use strict';
(() => {
  const tip = document.querySelector('.tip');
  const number = new Intl.NumberFormat('en');
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // The browser's own tooltips wait a second and cannot be read with keys: ours replace them.
  function marksOf(figure) {
    if (figure.marks) return figure.marks;
    figure.marks = all('rect > title, circle > title, path > title', figure).map((title) => {
      const mark = title.parentElement;
      const text = title.textContent;
      title.remove();
      mark.setAttribute('data-tip', text);
      return mark;
    });
    return figure.marks;
  }

  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), innerWidth - box.width - 8);
    tip.style.left = left + 'px';
    tip.style.top = Math.max(8, y - box.height - 12) + 'px';
  }
  function hideTip() { tip.hidden = true; }

  function middle(mark) {
    const box = mark.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  }

  // The mark under the pointer, else the nearest one within reach.
  function nearest(figure, x, y) {
    let best = null, least = 40 * 40;
    for (const mark of marksOf(figure)) {
      const box = mark.getBoundingClientRect();
      const dx = Math.max(box.left - x, 0, x - box.right), dy = Math.max(box.top - y, 0, y - box.bottom);
      const [mx, my] = middle(mark);
      const far = (dx * dx + dy * dy) * 4 + ((mx - x) ** 2 + (my - y) ** 2) / 1e4;
      if (far < least) { best = mark; least = far; }
    }
    return best;
  }

  let ring = null;
  function light(mark) {
    unlight();
    if (!mark) return;
    const svg = mark.ownerSVGElement;
    const box = mark.getBBox();
    ring = document.createElementNS('http://www.w3.org/2000/svg', mark.tagName === 'circle' ? 'circle' : 'rect');
    const set = (values) => Object.entries(values).forEach(([k, v]) => ring.setAttribute(k, v));
    if (mark.tagName === 'circle') set({ cx: box.x + box.width / 2, cy: box.y + box.height / 2, r: 4.5 });
    else set({ x: box.x - 1, y: box.y - 1, width: box.width + 2, height: box.height + 2, rx: 3 });
    set({ fill: 'none', stroke: 'var(--ink)', 'stroke-width': 1.6, 'pointer-events': 'none' });
    svg.append(ring);
  }
  function unlight() { if (ring) ring.remove(); ring = null; }

  function liven(figure) {
    let place = -1;
    figure.addEventListener('pointermove', (event) => {
      const mark = nearest(figure, event.clientX, event.clientY);
      light(mark);
      if (mark) showTip(mark.getAttribute('data-tip'), event.clientX, event.clientY); else hideTip();
    });
    figure.addEventListener('pointerleave', () => { unlight(); hideTip(); });
    figure.addEventListener('blur', () => { unlight(); hideTip(); });
    figure.addEventListener('keydown', (event) => {
      const marks = marksOf(figure);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === 'Escape') { unlight(); hideTip(); return; }
      if (!step || !marks.length) return;
      event.preventDefault();
      place = (place + step + marks.length) % marks.length;
      light(marks[place]);
      const [x, y] = middle(marks[place]);
      showTip(marks[place].getAttribute('data-tip'), x, y);
    });
    zoomable(figure);
  }
  all('figure.chart').forEach(liven);

  // Dragging over a line chart goes to that time: the server draws it.
  function zoomable(figure) {
    const plot = figure.querySelector('[data-time]');
    const svg = figure.querySelector('svg');
    if (!plot || !svg || !document.querySelector('.spans')) return;
    const [left, top, right, bottom] = plot.dataset.plot.split(' ').map(Number);
    const [low, high] = plot.dataset.time.split(' ').map(Number);
    const toX = (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      return Math.min(Math.max(x, left), right);
    };
    let start = null, band = null;
    svg.addEventListener('pointerdown', (event) => {
      if (event.pointerType === 'touch' || event.button !== 0) return;
      start = toX(event);
      band = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
      Object.entries({ y: top, height: bottom - top, x: start, width: 0, fill: 'var(--accent)', 'fill-opacity': .15 })
        .forEach(([k, v]) => band.setAttribute(k, v));
      svg.append(band);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener('pointermove', (event) => {
      if (start === null) return;
      const x = toX(event);
      band.setAttribute('x', Math.min(x, start));
      band.setAttribute('width', Math.abs(x - start));
    });
    svg.addEventListener('pointerup', (event) => {
      if (start === null) return;
      const ends = [start, toX(event)].sort((a, b) => a - b);
      band.remove();
      start = null;
      if (ends[1] - ends[0] < 8) return;
      // The axis shows the zone's own clocks, so the times have no offset.
      const time = (x) => new Date(low + (x - left) / (right - left) * (high - low)).toISOString().slice(0, 19);
      const url = new URL(location.href);
      url.searchParams.delete('range');
      url.searchParams.set('from', time(ends[0]));
      url.searchParams.set('to', time(ends[1]));
      location.assign(url);
    });
  }

  // Live figures: one stream for the whole page.
  const live = all('[data-live]');
  if (live.length && window.EventSource) {
    const stream = new EventSource(live[0].dataset.live);
    let last = null;
    const bytes = (n) => {
      const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
      let unit = 0;
      while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
      return (unit ? n.toFixed(1) : n) + ' ' + units[unit];
    };
    const moment = (zone, ms) => new Intl.DateTimeFormat('en-GB', {
      timeZone: zone || 'UTC', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit',
    }).format(ms).replace(',', '');
    const span = (ms) => {
      if (ms < 60e3) return (ms / 1e3).toFixed(1) + ' s';
      if (ms < 3600e3) return (ms / 60e3).toFixed(1) + ' min';
      return ms < 172800e3 ? (ms / 3600e3).toFixed(1) + ' h' : (ms / 86400e3).toFixed(1) + ' d';
    };
    // A panel that follows the stream is drawn anew when a checkpoint has brought rows, unless somebody reads it just now.
    let asking = false, drawn = null;
    const refresh = async (checkpoint) => {
      const places = all('[data-refresh]');
      if (asking || !places.length || document.hidden || checkpoint === drawn) return;
      if (places.some((place) => place.contains(document.activeElement) || place.matches(':hover'))) return;
      asking = true;
      try {
        for (const place of places) {
          const answer = await fetch(place.dataset.refresh + location.search);
          if (!answer.ok) continue;
          const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
          const panel = page.querySelector('[data-refresh]');
          if (!panel) continue;
          place.replaceWith(panel);
          all('figure.chart', panel).forEach(liven);
        }
        drawn = checkpoint;
      } catch (error) {
        // The server is away; the next message tries again.
      } finally { asking = false; }
    };
    const put = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };
    stream.addEventListener('status', (event) => {
      const now = JSON.parse(event.data);
      const seconds = last ? Math.max((now.now_ms - last.now_ms) / 1e3, .001) : 0;
      const before = new Map((last ? last.pipelines : []).map((p) => [p.name, p]));
      let rate = 0;
      for (const p of now.pipelines) {
        const old = before.get(p.name);
        const own = old && seconds ? (p.in - old.in) / seconds : null;
        if (own !== null) rate = Math.max(rate, own);
        const row = document.querySelector(`[data-pipeline="${CSS.escape(p.name)}"]`);
        const said = document.querySelector(`[data-said="${CSS.escape(p.name)}"]`);
        if (said && old && (old.in !== p.in || old.out !== p.out)) put(said, `${number.format(p.in)} in · ${number.format(p.out)} out`);
        if (!row) continue;
        const cell = (name) => row.querySelector(`[data-cell="${name}"]`);
        put(cell('in'), number.format(p.in));
        put(cell('out'), number.format(p.out));
        put(cell('late'), number.format(p.late));
        put(cell('state'), bytes(p.state));
        if (own !== null) put(cell('rate'), number.format(Math.round(own)));
        if (p.watermark_ms !== null) {
          put(cell('lag'), span(now.now_ms - p.watermark_ms));
          put(cell('watermark'), new Date(p.watermark_ms).toISOString().slice(0, 19).replace('T', ' '));
        }
      }
      for (const place of live) {
        if (place.classList.contains('health')) place.className = 'health ' + now.mood;
        const field = (name) => place.querySelector(`[data-field="${name}"]`);
        put(field('health'), now.health);
        if (now.newest_ms) put(field('newest'), moment(place.dataset.zone, now.newest_ms));
        if (last) put(field('rate'), number.format(Math.round(rate)));
        for (const name of ['late', 'rejected', 'future', 'checkpoint', 'log_end', 'log_waiting', 'log_open']) {
          if (now[name] !== undefined) put(field(name), number.format(now[name]));
        }
      }
      if (drawn === null) drawn = now.checkpoint; else refresh(now.checkpoint);
      last = now;
    });
    addEventListener('pagehide', () => stream.close());
  }

  // The live tail of a table.
  all('[data-tail]').forEach((place) => {
    const stream = new EventSource(place.dataset.tail);
    let body = null, columns = null;
    stream.addEventListener('rows', (event) => {
      const rows = JSON.parse(event.data);
      if (!body) {
        columns = Object.keys(rows[rows.length - 1]);
        const table = document.createElement('table');
        const head = table.createTHead().insertRow();
        for (const column of columns) {
          const th = document.createElement('th');
          th.scope = 'col';
          th.textContent = column.replaceAll('_', ' ');
          head.append(th);
        }
        body = table.createTBody();
        place.replaceChildren(table);
      }
      for (const row of rows) {
        const line = body.insertRow(0);
        for (const column of columns) {
          const value = row[column];
          line.insertCell().textContent = value === null || value === undefined ? '–' : typeof value === 'object' ? JSON.stringify(value) : String(value);
        }
      }
      while (body.rows.length > 200) body.deleteRow(-1);
    });
    stream.addEventListener('trouble', (event) => { place.textContent = JSON.parse(event.data).detail; });
    addEventListener('pagehide', () => stream.close());
  });

  // The editor: Ctrl+Enter runs, names are put in at the caret, the list of tables can be searched.
  const editor = document.querySelector('[data-editor]');
  if (editor) {
    editor.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); editor.form.requestSubmit(); }
    });
    all('[data-insert]').forEach((button) => button.addEventListener('click', () => {
      editor.setRangeText(button.dataset.insert, editor.selectionStart, editor.selectionEnd, 'end');
      editor.focus();
    }));
    const filter = document.querySelector('[data-schema-filter]');
    filter.hidden = false;
    filter.addEventListener('input', () => all('[data-table]').forEach((table) => {
      table.hidden = !table.textContent.toLowerCase().includes(filter.value.toLowerCase());
    }));
  }

  // Light or dark: a cookie, so that the server paints the next page right at once.
  const themes = document.querySelector('[data-theme-switch]');
  if (themes) {
    themes.hidden = false;
    themes.addEventListener('click', () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
      root.dataset.theme = dark ? 'light' : 'dark';
      document.cookie = `millstream_theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Lax`;
    });
  }
})();
