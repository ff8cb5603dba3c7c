// Loads the page again if one of its assets is gone: a deployment came in between. Not more often
// than every ten seconds, and only while it loads, so that nobody loses what they have typed.
(() => {
  const key = "page-loaded-again-at", pause = 10000;
  const reload = () => {
    sessionStorage.setItem(key, Date.now());
    location.reload();
  };
  let asked = false;
  const onError = ({ target }) => {
    const asset = target.src || target.href;
    if (asked || !asset || !asset.startsWith(location.origin + "/assets/")) return;
    asked = true;
    const since = Date.now() - Number(sessionStorage.getItem(key));
    setTimeout(reload, since >= 0 && since < pause ? pause - since : 0);
  };
  addEventListener("error", onError, true);
  addEventListener("load", () => removeEventListener("error", onError, true));
})();
