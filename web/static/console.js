// What pages gain from a script: theme switch, copy buttons, live lists.  Every page works without it.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");

  const theme = document.getElementById("theme");
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
    });
  }

  // On a phone the navigation scrolls: begin with the page that is shown.
  const here = document.querySelector(".nav [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - 16;

  // Requests that htmx makes for a form carry its token as the form itself does; a lone button needs the header.
  const token = document.querySelector('meta[name="form-token"]');
  document.addEventListener("htmx:config:request", (event) => {
    const request = event.detail?.ctx?.request;
    if (request && token) request.headers["X-Form-Token"] = token.content;
  });

  const ready = (within) => {
    for (const button of within.querySelectorAll("button.copy[hidden]")) button.hidden = !navigator.clipboard;
  };
  ready(document);
  document.addEventListener("htmx:after:swap", () => ready(document));

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.classList.add("done");
    say("Copied");
    setTimeout(() => button.classList.remove("done"), 1500);
  });

  const say = (text) => {
    const notices = document.getElementById("notices");
    let line = notices.querySelector(".unseen");
    if (!line) {
      line = document.createElement("p");
      line.className = "unseen";
      notices.append(line);
    }
    line.textContent = text;
  };

  // A list that grows: <tbody data-stream="/events/calls" data-keep="200">; each event's data is one row of HTML.
  for (const list of document.querySelectorAll("[data-stream]")) {
    const state = document.getElementById(list.dataset.state || "");
    const stream = new EventSource(list.dataset.stream);
    const show = (name) => { if (state) state.dataset.now = name; };
    stream.addEventListener("open", () => show("live"));
    stream.addEventListener("error", () => show("lost"));
    stream.addEventListener("message", (event) => {
      const row = document.createElement("template");
      row.innerHTML = event.data;
      list.querySelector(".none")?.remove();
      list.prepend(row.content);
      while (list.children.length > Number(list.dataset.keep || 200)) list.lastElementChild.remove();
    });
    addEventListener("pagehide", () => stream.close());
  }

  // A talk, told as it happens: lines of JSON from /events/chat.  Everything is put in as text.
  const block = (list, kind, head) => {
    const box = document.createElement("div");
    box.className = `said ${kind}`;
    const title = document.createElement("p");
    title.className = "dim";
    title.textContent = head;
    const text = document.createElement("p");
    text.className = kind === "tool" ? "prose mono" : "prose";
    box.append(title, text);
    list.append(box);
    return text;
  };
  const tellers = (list, form) => {
    let saying = null;
    const tool = (head, text) => { saying = null; block(list, "tool", head).textContent = text; };
    return {
      said: (e) => { (saying ??= block(list, "assistant", "The model")).append(e.text); },
      call: (e) => tool(`calls ${e.tool}`, e.arguments),
      result: (e) => tool(e.ok ? "answers" : "reports an error", e.text),
      refused: (e) => tool(`${e.tool} was not called`, e.why),
      error: (e) => tool(e.code, e.remedy ? `${e.message}. What to do: ${e.remedy}` : e.message),
      end: (e) => { form.elements.history.value = JSON.stringify(e.history); if (e.line) tool("", e.line); },
    };
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-talk]");
    if (!form) return;
    event.preventDefault();
    if (form.classList.contains("htmx-request")) return;
    const body = new URLSearchParams(new FormData(form));
    const list = document.getElementById("said");
    block(list, "user", "You").textContent = form.elements.say.value;
    form.elements.say.value = "";
    form.classList.add("htmx-request");
    const tell = tellers(list, form);
    try {
      const answer = await fetch(form.dataset.talk, { method: "POST", body });
      if (!answer.ok) throw new Error(`the console answered ${answer.status}; load the page again`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        rest += value ?? "";
        const lines = rest.split("\n");
        rest = lines.pop();
        for (const line of lines) { const e = JSON.parse(line); tell[e.kind]?.(e); }
        if (done) break;
      }
    } catch (error) {
      tell.error({ code: "console.lost", message: error.message });
    } finally {
      form.classList.remove("htmx-request");
    }
  });

  // Tables that sort by a click on a heading's button.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("th button.sort-by");
    if (!button) return;
    const heading = button.closest("th");
    const table = heading.closest("table");
    const column = [...heading.parentElement.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => value(a).localeCompare(value(b), undefined, { numeric: true }));
    body.append(...(down ? rows.reverse() : rows));
  });
})();
