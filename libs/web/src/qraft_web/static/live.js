// Keep a page fresh: server-sent events say that something happened, a plain load says what. When the event stream is away
// the page polls; when loading fails too, the connection is lost, and that is shown until a load succeeds.

const REFRESH_MS_MIN = 1_000; // events may come four times a second; the whole desk is loaded once a second at most
const POLL_MS = 3_000; // without the event stream
const SAFETY_POLL_MS = 5_000; // with it: a kill switch may change while no bar closes
const RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000]; // then every 15 s for as long as the page is open

/**
 * Follow a source. `load()` returns the data; `onData(data)`, `onEvent(payload)`, `onConnection(name, error)` tell the page, with
 * the names connecting, live, polling and lost. Returns `{refresh}` that loads at once.
 */
export function follow({ load, eventsUrl, eventName, onData, onEvent, onConnection }) {
  let stream = null;
  let streamIsOpen = false;
  let streamFailures = 0;
  let loadFailures = 0;
  let loadedAt = 0;
  let isLoading = false;
  let timer = null;
  let reopenTimer = null;

  const refresh = async () => {
    if (isLoading) return;
    isLoading = true;
    clearTimeout(timer);
    try {
      const data = await load();
      loadFailures = 0;
      onData(data);
      tellConnection();
    } catch (error) {
      if (error.name !== "CallFailed") throw error;
      loadFailures += 1;
      onConnection("lost", error);
    } finally {
      isLoading = false;
      loadedAt = performance.now();
      schedule(nextDelay());
    }
  };
  const nextDelay = () => {
    if (loadFailures > 0) return retryDelay(loadFailures);
    return streamIsOpen ? SAFETY_POLL_MS : POLL_MS;
  };
  const schedule = (delay) => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, delay);
  };
  const tellConnection = () => {
    if (loadFailures === 0) onConnection(streamIsOpen ? "live" : streamFailures > 0 ? "polling" : "connecting", null);
  };
  const open = () => {
    if (stream) return;
    stream = new EventSource(eventsUrl);
    stream.addEventListener("open", () => {
      streamIsOpen = true;
      streamFailures = 0;
      if (loadFailures > 0) refresh();
      else tellConnection();
    });
    stream.addEventListener(eventName, (event) => {
      const payload = parse(event.data);
      if (payload) onEvent(payload);
      if (!isLoading) schedule(Math.max(0, REFRESH_MS_MIN - (performance.now() - loadedAt)));
    });
    stream.addEventListener("error", () => {
      close();
      streamFailures += 1;
      tellConnection();
      if (!isLoading) schedule(Math.min(nextDelay(), RETRY_MS[0]));
      reopenTimer = setTimeout(open, retryDelay(streamFailures));
    });
  };
  const close = () => {
    clearTimeout(reopenTimer);
    stream?.close();
    stream = null;
    streamIsOpen = false;
  };

  // A hidden page keeps no connection: browsers allow only six to one server.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    close();
    if (!document.hidden) {
      open();
      refresh();
    }
  });
  onConnection("connecting", null);
  open();
  refresh();
  return { refresh };
}

function retryDelay(failures) {
  return RETRY_MS[Math.min(failures, RETRY_MS.length) - 1];
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
