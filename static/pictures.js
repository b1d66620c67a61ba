// pictures.js: shows a picture when it is painted. Until then there is its ornament, and without this script it is there
// on the next visit.

(() => {
  "use strict";
  const PATIENCE = 80; // times to look, of one picture
  const seen = new WeakMap();

  async function look(image, times) {
    const address = image.currentSrc || image.src;
    if (!image.isConnected || seen.get(image) !== image.getAttribute("src") || times > PATIENCE) return;
    let seconds = 0;
    try {
      const answer = await fetch(address, { method: "HEAD", cache: "no-store" });
      if (answer.headers.get("x-picture") === "painted") {
        image.src = `${image.getAttribute("src").split("?")[0]}?painted`;
        return;
      }
      seconds = Number(answer.headers.get("retry-after"));
    } catch {
      seconds = 10; // the server is away for a moment
    }
    if (seconds) setTimeout(look, 1000 * Math.min(seconds, 60), image, times + 1);
  }

  // Every picture is looked at once it has loaded, whenever it came into the page.
  function loaded(image) {
    const source = image.getAttribute("src");
    if (seen.get(image) === source || source.endsWith("?painted")) return;
    seen.set(image, source);
    look(image, 0);
  }
  document.addEventListener("load", (event) => event.target.matches?.("img[data-pending]") && loaded(event.target), true);
  for (const image of document.querySelectorAll("img[data-pending]")) if (image.complete) loaded(image);
})();
