// What the theme leaves out for screen readers and keyboards.
function label() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap").forEach((box) => (box.tabIndex = 0));
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => nav.setAttribute("aria-label", `Code block ${index + 1}`));
  document.querySelectorAll(".md-typeset th:empty").forEach((head) => head.replaceWith(document.createElement("td")));
}

document.addEventListener("DOMContentLoaded", () => {
  label();
  new MutationObserver(label).observe(document.body, { childList: true, subtree: true });
});
