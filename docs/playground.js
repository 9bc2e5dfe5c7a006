// The playground inside a page is light or dark as the page is.
const dress = () => {
  const theme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
  for (const frame of document.querySelectorAll("iframe.playground")) frame.contentWindow?.postMessage({ theme }, "*");
};
new MutationObserver(dress).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
for (const frame of document.querySelectorAll("iframe.playground")) frame.addEventListener("load", dress);
dress();
