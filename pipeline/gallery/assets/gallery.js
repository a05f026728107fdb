"use strict";
// Texts of bundles reach the page as text only (textContent, never innerHTML).

const $ = (selector, where = document) => where.querySelector(selector);
const $$ = (selector, where = document) => [...where.querySelectorAll(selector)];

function firstPage() {
  const PAGE = 24; // cards added at a time: more would make typing slow
  const TAGS = 6; // shown on a card
  const scenes = JSON.parse($("#scenes").textContent);
  const form = $("#filters"), list = $("#cards"), more = $("#more");
  const fields = ["q", "tag", "size", "licence", "quality", "source"];
  const texts = scenes.map((s) => [s.name, s.description, s.licence, s.source, ...s.tags].join(" ").toLowerCase());
  let found = scenes, shown = 0;

  const wanted = new URLSearchParams(location.search);
  for (const field of fields) if (wanted.get(field)) form.elements[field].value = wanted.get(field);

  function cardOf(scene) {
    const card = $("#card").content.cloneNode(true);
    const folder = `scenes/${scene.name}/${scene.version}/`;
    const put = (where, text) => { $(where, card).textContent = text; };
    $("a", card).href = folder + "index.html";
    $("img", card).src = folder + "view.jpg";
    put(".name", scene.name);
    put(".version", scene.version);
    put(".description", scene.description);
    put(".generated", scene.origin);
    $(".generated", card).hidden = scene.origin === "captured";
    const fails = scene.failed.length;
    if (fails) $(".card", card).classList.add("fails");
    const well = scene.unmeasured ? `Fails no gate; ${scene.unmeasured} not measured` : "Passes every gate";
    put(".verdict", fails ? `Fails ${fails} gate${fails > 1 ? "s" : ""}: ${scene.failed.join(", ")}` : well);
    const psnr = scene.psnr === null ? [] : [`${scene.psnr} dB PSNR`];
    const tags = scene.tags.length > TAGS ? [...scene.tags.slice(0, TAGS), `${scene.tags.length - TAGS} more`] : scene.tags;
    for (const [where, texts] of [[".facts", [scene.thing || `${scene.area} m² floor`, ...psnr, scene.bytes, scene.licence]], [".tags", tags]]) {
      $(where, card).append(...texts.map((textContent) => Object.assign(document.createElement("span"), { textContent })));
    }
    return card;
  }

  function showMore() {
    const next = found.slice(shown, shown + PAGE);
    list.append(...next.map(cardOf));
    shown += next.length;
    more.hidden = shown >= found.length;
  }

  function search() {
    const query = Object.fromEntries(fields.map((field) => [field, form.elements[field].value]));
    const words = query.q.toLowerCase().split(/\s+/).filter(Boolean);
    found = scenes.filter((scene, index) =>
      words.every((word) => texts[index].includes(word)) &&
      (!query.tag || scene.tags.includes(query.tag)) &&
      ["size", "licence", "source"].every((field) => !query[field] || scene[field] === query[field]) &&
      (!query.quality || (query.quality === "failed") === scene.failed.length > 0));
    list.replaceChildren();
    shown = 0;
    showMore();
    $("#count").textContent = found.length ? `${found.length} of ${scenes.length} scenes` : "No scene is like that. Clear a filter.";
    const asked = new URLSearchParams(fields.filter((field) => query[field]).map((field) => [field, query[field]]));
    try { history.replaceState(null, "", String(asked) ? `?${asked}` : location.pathname); } catch { /* opened as a file */ }
  }

  form.addEventListener("input", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(search));
  more.addEventListener("click", () => {
    const first = shown;
    showMore();
    $("a", list.children[first]).focus();
  });
  search();
}

// The 3-D view is viser's client in a frame of the same site. It leaves its state in `__viserMutable`, to which a live
// server's messages would go; switches, steps and what is streamed go the same way.
function view() {
  const WALK_STEP = 0.4, TURN = Math.PI / 12, NEAR = 0.05, FAR = 2; // metres, radians, metres, metres
  const BLOCK = 32 * 2 ** 16; // bytes of 65,536 Gaussians, which are shown at a time
  const SOFTWARE = /swiftshader|llvmpipe|software/i; // draws without a graphics card: at half the resolution
  const box = $("#view"), tools = $("#tools"), busy = $("#busy");
  const frame = document.createElement("iframe");
  let walking = false, level = "light", whole = false, coming, start;

  const viser = () => { try { return frame.contentWindow.__viserMutable; } catch { return undefined; } };
  const press = (button, on) => button.setAttribute("aria-pressed", on);
  const say = (text) => { $("#view-state").textContent = busy.textContent = text; };

  function send(message) {
    viser().messageQueue.push({ owner: "", ...message });
    viser().requestRender();
  }
  const show = (name, visible) => send({ type: "SetSceneNodeVisibilityMessage", name, visible });
  const showLayer = (button) => show(`/${button.dataset.layer}`, button.getAttribute("aria-pressed") === "true");
  function add(type, name, props) {
    send({ type, name, virtual: false, props: { scale: 1, ...props } });
    show(name, true); // or it shows within what is switched off
  }

  function load() {
    if (location.protocol === "file:") return say("Opened as a file, this page has no 3-D view: it needs a web server");
    const context = document.createElement("canvas").getContext("webgl2");
    if (!context) return say("This browser draws no 3-D view: WebGL 2 is missing or switched off");
    const renderer = context.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL ?? context.RENDERER;
    const coarse = SOFTWARE.test(context.getParameter(renderer)) ? "&fixedDpr=0.5" : "";
    context.getExtension("WEBGL_lose_context")?.loseContext();
    const site = new URL("../../../", location.href);
    const recording = new URL(`${box.dataset.here}view.viser`, site).pathname;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "&darkMode" : "";
    say("Loading the 3-D view …");
    frame.title = box.dataset.name;
    frame.src = new URL(`viewer/index.html?playbackPath=${encodeURIComponent(recording)}&hideViserLogo&${box.dataset.camera}${dark}${coarse}`, site);
    box.append(frame);
    const patience = setInterval(() => {
      if (!viser()?.nodeRefFromName?.["/splat/light"]) return;
      clearInterval(patience);
      const { cameraControl } = viser();
      start = [...cameraControl.getPosition().toArray(), ...cameraControl.getTarget().toArray()];
      box.classList.add("ready");
      tools.hidden = false;
      say("");
      $("#view-state").textContent = "The 3-D view is there";
    }, 50);
  }

  // Orbiting turns round what is looked at; walking turns on the spot: the same with a target just ahead.
  function walk(on) {
    walking = on;
    const control = viser().cameraControl, eye = control.getPosition(), target = control.getTarget();
    const ahead = target.clone().sub(eye).normalize();
    const place = eye.clone().addScaledVector(ahead, on ? NEAR : FAR);
    control.setTarget(place.x, place.y, place.z, false);
    showMoving();
  }

  function startAgain() {
    walking = false;
    viser().cameraControl.setLookAt(...start, false);
    showMoving();
  }

  function showMoving() {
    viser().requestRender();
    for (const button of $$("[data-move]")) press(button, (button.dataset.move === "walk") === walking);
    $("#pad").hidden = !walking;
  }

  const steps = {
    ahead: (control) => control.forward(WALK_STEP, true),
    back: (control) => control.forward(-WALK_STEP, true),
    left: (control) => control.rotate(TURN, 0, true),
    right: (control) => control.rotate(-TURN, 0, true),
  };

  // All Gaussians come in blocks, the largest first, and show as they come; the light ones stay until all are there.
  async function stream() {
    let come = 0, blocks = 0, filled = 0, block = new Uint8Array(BLOCK);
    const put = () => {
      add("GaussianSplatsMessage", `/splat/full/${blocks++}`, { buffer: new Uint32Array(block.buffer, 0, filled / 4) });
      [block, filled] = [new Uint8Array(BLOCK), 0];
    };
    const parts = async (file, take) => {
      const answer = await fetch(file), reader = answer.body.getReader();
      if (!answer.ok) throw new Error(`${file}: ${answer.status}`);
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        come += value.length;
        busy.textContent = `Loading everything: ${Math.floor((100 * come) / box.dataset.bytes)} %`;
        take(value);
      }
    };
    await parts("full.splat", (bytes) => {
      while (bytes.length) {
        const part = bytes.subarray(0, BLOCK - filled);
        block.set(part, filled);
        filled += part.length;
        bytes = bytes.subarray(part.length);
        if (filled === BLOCK) put();
      }
    });
    if (filled) put();
    const mesh = [];
    await parts("full.glb", (bytes) => mesh.push(bytes));
    const glb_data = new Uint8Array(await new Blob(mesh).arrayBuffer());
    if (come !== Number(box.dataset.bytes)) throw new Error(`${come} bytes came`);
    add("GlbMessage", "/mesh/full/surface", { glb_data, cast_shadow: true, receive_shadow: true });
    whole = true;
  }

  function choose(wanted) {
    level = wanted;
    for (const button of $$("[data-level]")) press(button, button.dataset.level === level);
    for (const kind of ["splat", "mesh"]) {
      show(`/${kind}/full`, level === "full");
      show(`/${kind}/light`, level === "light" || !whole);
    }
    if (level === "light" || coming) return;
    say("Loading everything …");
    coming = stream().then(
      () => { say(""); choose(level); },
      () => { coming = undefined; say("It did not come over: the light level is shown"); choose("light"); });
  }

  tools.addEventListener("click", ({ target }) => {
    const { layer, move, step, level: wanted } = target.dataset;
    if (!viser()) return;
    if (target.id === "reset") startAgain();
    if (layer) { press(target, target.getAttribute("aria-pressed") !== "true"); showLayer(target); }
    if (move && (move === "walk") !== walking) walk(move === "walk");
    if (step) { steps[step](viser().cameraControl); viser().requestRender(); }
    if (wanted) choose(wanted);
  });
  load();
}

function scenePage() {
  for (const pair of $$(".pair")) $("input", pair).addEventListener("input", (event) => pair.style.setProperty("--at", `${event.target.value}%`));
  for (const button of $$("[data-copy]")) button.addEventListener("click", async () => {
    const code = $("pre", button.parentElement);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  view();
}

if ($("#scenes")) firstPage();
if ($("#view")) scenePage();
