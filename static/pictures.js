// pictures.js: replaces ornaments with the painted pictures as soon as they are ready. Without this script the pictures
// appear on the next visit.

(() => {
  "use strict";
  const MAX_ATTEMPTS = 80; // for each picture
  const polled = new WeakMap();

  async function poll(image, attempt) {
    const address = image.currentSrc || image.src;
    if (!image.isConnected || polled.get(image) !== image.getAttribute("src") || attempt > MAX_ATTEMPTS) return;
    let seconds = 0;
    try {
      const response = await fetch(address, { method: "HEAD", cache: "no-store" });
      if (response.headers.get("x-picture") === "painted") {
        image.src = `${image.getAttribute("src").split("?")[0]}?painted`;
        return;
      }
      seconds = Number(response.headers.get("retry-after"));
    } catch {
      seconds = 10; // the server is unreachable for the moment
    }
    if (seconds) setTimeout(poll, 1000 * Math.min(seconds, 60), image, attempt + 1);
  }

  // Start when an image has loaded, whenever it was added to the page.
  function onLoad(image) {
    const source = image.getAttribute("src");
    if (polled.get(image) === source || source.endsWith("?painted")) return;
    polled.set(image, source);
    poll(image, 0);
  }
  document.addEventListener("load", (event) => event.target.matches?.("img[data-pending]") && onLoad(event.target), true);
  for (const image of document.querySelectorAll("img[data-pending]")) if (image.complete) onLoad(image);
})();
