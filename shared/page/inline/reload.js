// Loads the page again if one of its assets is gone: a deployment came in between. Not more than
// twice, the second time after ten seconds, and never once the page is there, so that nobody loses
// what they have typed.
(() => {
  const key = "page-loaded-again", pause = 10000;
  const tries = Number(sessionStorage.getItem(key));
  let timer, broken;
  const reload = () => {
    sessionStorage.setItem(key, tries + 1);
    location.reload();
  };
  const onError = ({ target }) => {
    const asset = target.src || target.href;
    if (!asset || !asset.startsWith(location.origin + "/assets/")) return;
    broken ||= target.localName === "script";
    if (tries < 2) timer ??= setTimeout(reload, tries * pause);
  };
  addEventListener("error", onError, true);
  addEventListener("load", () => {
    removeEventListener("error", onError, true);
    if (!broken) {
      clearTimeout(timer);
      sessionStorage.removeItem(key);
    } else if (!timer) {
      document.getElementById("page").textContent =
        "A part of this page cannot be loaded. Try again in a minute: load the page anew.";
    }
  });
})();
