// Signs the person in with Google, hands the ID token to the page that has opened this window, and
// closes it. It is a document of its own, since Google's library needs a wider policy than the page.
(() => {
  const tell = (text) => (document.getElementById("told").textContent = text);
  const hand = ({ credential }) => {
    // To this origin only: if the opener is elsewhere by now, the browser delivers nothing.
    opener.postMessage({ kind: "google-sign-in", credential }, location.origin);
    close();
  };
  const begin = async () => {
    if (!opener) return tell("Open the Hub's page, and sign in from there.");
    const { methods } = await (await fetch("/sign-in", { cache: "no-store" })).json();
    const web = methods.find((each) => each.kind === "oauth_web");
    if (!web) return tell("This Hub has no sign-in with Google for the page.");
    if (!window.google) return tell("Google's sign-in cannot be loaded. Close this window, and try again.");
    const { id } = google.accounts;
    id.initialize({ client_id: web.client_id, callback: hand, auto_select: true });
    id.renderButton(document.getElementById("button"), { theme: "outline", size: "large" });
    id.prompt();
  };
  addEventListener("load", () =>
    begin().catch(() => tell("The Hub does not answer. Close this window, and try again.")),
  );
})();
