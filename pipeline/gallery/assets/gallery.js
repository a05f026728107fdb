"use strict";
// Texts of bundles reach the page as text only (textContent, never innerHTML).

const $ = (selector, where = document) => where.querySelector(selector);
const $$ = (selector, where = document) => [...where.querySelectorAll(selector)];

function firstPage() {
  const PAGE = 48; // cards added at a time: a thousand at once would make typing slow
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
    $(".generated", card).hidden = !scene.generated;
    const fails = scene.failed.length;
    if (fails) $(".card", card).classList.add("fails");
    put(".verdict", fails ? `Fails ${fails} gate${fails > 1 ? "s" : ""}: ${scene.failed.join(", ")}` : "Passes every gate");
    const psnr = scene.psnr === null ? [] : [`${scene.psnr} dB PSNR`];
    put(".facts", [`${scene.area} m² floor`, ...psnr, scene.bytes, scene.licence].join("  ·  "));
    for (const tag of scene.tags) $(".tags", card).append(Object.assign(document.createElement("span"), { textContent: tag }));
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
// server's messages would go; switches and steps go the same way. Where that is missing, its own scene tree still works.
function view() {
  const box = $("#view"), tools = $("#tools"), [light] = box.dataset.files.split(" ");
  const root = new URL("../../../", location.href);
  const WALK_STEP = 0.4, TURN = Math.PI / 12, NEAR = 0.05; // metres, radians, metres
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "&darkMode" : "";
  let frame, walking = false, patience, level = light;

  const viser = () => { try { return frame.contentWindow.__viserMutable; } catch { return undefined; } };
  const say = (text) => { $("#view-state").textContent = text; };
  const press = (button, on) => button.setAttribute("aria-pressed", on);

  function load(file, camera) {
    clearInterval(patience);
    level = file;
    if (frame) frame.remove();
    box.classList.remove("ready");
    box.classList.add("busy");
    say("Loading the 3-D view");
    frame = document.createElement("iframe");
    frame.title = box.dataset.name;
    const path = new URL(`${box.dataset.here}${file}.viser`, root).pathname;
    frame.src = new URL(`viewer/index.html?playbackPath=${encodeURIComponent(path)}&hideViserLogo&${camera}${dark}`, root);
    box.append(frame);
    patience = setInterval(() => {
      if (!viser()?.nodeRefFromName?.["/splat/gaussians"]) return;
      clearInterval(patience);
      box.classList.replace("busy", "ready");
      tools.hidden = false;
      say("The 3-D view is there");
      for (const button of $$("[data-layer]")) show(button);
      if (walking) walk(true);
    }, 50);
  }

  function show(button) {
    const visible = button.getAttribute("aria-pressed") === "true";
    const name = `/${button.dataset.layer}`;
    viser().messageQueue.push({ type: "SetSceneNodeVisibilityMessage", name, visible, owner: "" });
    viser().requestRender();
  }

  // Orbiting turns round what is looked at; walking turns on the spot: the same with a target just ahead.
  function walk(on) {
    walking = on;
    const control = viser().cameraControl, eye = control.getPosition(), target = control.getTarget();
    const ahead = target.clone().sub(eye).normalize();
    const place = eye.clone().addScaledVector(ahead, on ? NEAR : 2);
    control.setTarget(place.x, place.y, place.z, false);
    viser().requestRender();
    for (const button of $$("[data-move]")) press(button, (button.dataset.move === "walk") === on);
    $("#pad").hidden = !on;
  }

  const steps = {
    ahead: (control) => control.forward(WALK_STEP, true),
    back: (control) => control.forward(-WALK_STEP, true),
    left: (control) => control.rotate(TURN, 0, true),
    right: (control) => control.rotate(-TURN, 0, true),
  };

  // three.js has y up and, as viser turns a scene with z up, its x to the back: the same place in the scene's words
  const inScene = (v) => [-v.z, -v.x, v.y].map((value) => value.toFixed(4)).join();

  function change(file) {
    const control = viser()?.cameraControl;
    const fov = /initialCameraFov=[\d.]+/.exec(box.dataset.camera)[0];
    load(file, control
      ? `initialCameraPosition=${inScene(control.getPosition())}&initialCameraLookAt=${inScene(control.getTarget())}&initialCameraUp=0,0,1&${fov}`
      : box.dataset.camera);
  }

  tools.addEventListener("click", ({ target }) => {
    const { layer, move, step, level: file } = target.dataset;
    if (target.id === "reset") { walking = false; load(level, box.dataset.camera); $("#pad").hidden = true; for (const b of $$("[data-move]")) press(b, b.dataset.move === "orbit"); return; }
    if (file) { for (const button of $$("[data-level]")) press(button, button === target); change(file); return; }
    if (!viser()) return;
    if (layer) { press(target, target.getAttribute("aria-pressed") !== "true"); show(target); }
    if (move && (move === "walk") !== walking) walk(move === "walk");
    if (step) { steps[step](viser().cameraControl); viser().requestRender(); }
  });
  load(light, box.dataset.camera);
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
