/**
 * The page begins here.
 *
 * @module
 */
import { render } from "lit";
import { announceChanges } from "page/announce.js";
import { app, followRoute } from "page/app.js";
import { recallChoices } from "page/choices.js";
import { followDeleted } from "page/deleted.js";
import { followFocus, listenToKeys } from "page/keys.js";
import { Live } from "page/live.js";
import { followPanel } from "page/panel.js";
import { openSession } from "page/session.js";
import { pageTitle, pageView } from "page/shell.js";
import { everySecond } from "page/times.js";

const LONGEST_PAUSE_MS = 60_000;
const page = document.getElementById("page");
recallChoices();
page.replaceChildren();
app.subscribe(() => {
  render(pageView(app), page);
  document.title = pageTitle(app);
});
announceChanges(app, document.getElementById("announcer"));
followRoute();
followFocus(app);
listenToKeys(app);
everySecond(() => app.update());
await begin();

/** Find out how people sign in here, and begin to read. Without an answer: again, later. */
async function begin(pause = 1000) {
  // The Hub is asked already.
  app.tryNow = () => {};
  try {
    app.open(await openSession());
  } catch (error) {
    app.update((state) => (state.trouble = { error, retryAt: Date.now() + pause, since: null }));
    const timer = setTimeout(begin, pause, Math.min(LONGEST_PAUSE_MS, pause * 2));
    app.tryNow = () => {
      clearTimeout(timer);
      begin();
    };
    return;
  }
  app.live = new Live(app);
  followPanel(app);
  followDeleted(app);
  app.tryNow = () => app.live.poke();
  app.live.start();
}
