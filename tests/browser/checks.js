// What is wrong with the page: lists by name, of which a good one has none.
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const without = (selector, has) => all(selector).filter((e) => !has(e)).map((e) => e.outerHTML);

  // WCAG 2.2, 1.4.3 and 1.4.11: a contrast of 4.5 for text, of 3 for marks.
  const channel = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\d.]+/g).map(Number).map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = luminance(getComputedStyle(document.body).backgroundColor);
  const contrast = (colour) => {
    const [dark, bright] = [luminance(colour), behind].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
  // Text on a cell of a heat map is black or white, by the cell's own colour.
  const isOnCell = (e) => e.tagName === "text" && !e.getAttribute("style").includes("var(--ink");
  const isHardToRead = (e) => {
    const style = getComputedStyle(e);
    const least = e.ariaHidden === "true" ? 3 : 4.5;
    return contrast(e.tagName === "text" ? style.fill : style.color) < least;
  };
  const texts = all("body *:not(script)").filter((e) => hasText(e) && !isOnCell(e));

  const isDrawn = (svg) => {
    const box = svg.getBoundingClientRect();
    return box.width >= 100 && box.height >= 50 && svg.querySelector("path");
  };
  const ids = all("[id]").map((e) => e.id);

  const wrong = {
    hardToRead: texts.filter(isHardToRead).map((e) => e.textContent),
    notDrawn: without("figure svg", isDrawn),
    repeatedIds: ids.filter((id, at) => ids.indexOf(id) !== at),
    withoutCaption: without("figure, table", (e) => e.querySelector("figcaption, caption")?.textContent),
    withoutScope: without("th", (th) => th.scope),
    withoutAlternative: without(".panels", (p) => p.ariaLabel),
    tooWide: all("html").filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.scrollWidth),
  };
  return Object.fromEntries(Object.entries(wrong).filter(([, found]) => found.length));
})()
