// English and Chinese. The choice is kept in localStorage; without one the browser's languages decide.

export const LANGUAGES = Object.freeze([
  { code: "en", tag: "en", label: "EN", name: "English" },
  { code: "zh", tag: "zh-CN", label: "中文", name: "中文" },
]);
const STORAGE_KEY = "qraft.language";

/** Words of the shared header, badges and states; a page adds its own. */
export const SHARED_MESSAGES = Object.freeze({
  en: {
    "language.label": "Language",
    "origin.real": "Real data",
    "origin.replay": "Replay of real data",
    "origin.simulated": "SIMULATED",
    "origin.unknown": "Origin unknown",
    "origin.simulated.title": "SIMULATED DATA.",
    "origin.simulated.text": "These prices were generated here. Nothing on this page is evidence about a market.",
    "profile.demo": "DEMO limits",
    "profile.standard": "Standard limits",
    "connection.connecting": "Connecting",
    "connection.live": "Live",
    "connection.polling": "Polling",
    "connection.lost": "Connection lost",
    "state.loading": "Loading…",
    "state.retry": "Try again now",
    "table.all": "Show all {n}",
  },
  zh: {
    "language.label": "语言",
    "origin.real": "真实数据",
    "origin.replay": "真实数据回放",
    "origin.simulated": "模拟数据",
    "origin.unknown": "来源未知",
    "origin.simulated.title": "模拟数据。",
    "origin.simulated.text": "这些价格由本机生成，本页内容不能作为任何市场结论的依据。",
    "profile.demo": "演示限额",
    "profile.standard": "标准限额",
    "connection.connecting": "连接中",
    "connection.live": "实时",
    "connection.polling": "轮询",
    "connection.lost": "连接中断",
    "state.loading": "加载中…",
    "state.retry": "立即重试",
    "table.all": "显示全部 {n} 条",
  },
});

/** Return translations over `{en, zh}` messages: `t`, `has`, `use(code)`, `subscribe(listener)`, `apply(root)`. */
export function createI18n(messages) {
  const tables = {};
  for (const { code } of LANGUAGES) tables[code] = { ...SHARED_MESSAGES[code], ...messages[code] };
  const listeners = new Set();
  let current = chosenLanguage();

  const i18n = {
    get code() { return current; },
    get tag() { return LANGUAGES.find(({ code }) => code === current).tag; },
    has: (key) => key in tables[current],
    t(key, values = {}) {
      const text = tables[current][key];
      if (text === undefined) {
        console.error(`no ${current} text for ${key}`);
        return key;
      }
      return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
    },
    use(code) {
      if (!(code in tables)) throw new Error(`expected a language out of ${Object.keys(tables)}, received ${code}`);
      current = code;
      keepLanguage(code);
      i18n.apply(document);
      for (const listener of listeners) listener(code);
    },
    subscribe(listener) { listeners.add(listener); },
    apply(root) {
      document.documentElement.lang = i18n.tag;
      for (const node of root.querySelectorAll("[data-i18n]")) node.textContent = i18n.t(node.dataset.i18n);
      for (const node of root.querySelectorAll("[data-i18n-label]")) {
        node.setAttribute("aria-label", i18n.t(node.dataset.i18nLabel));
      }
    },
  };
  return i18n;
}

function chosenLanguage() {
  const known = new Set(LANGUAGES.map(({ code }) => code));
  const kept = readKept();
  if (known.has(kept)) return kept;
  const wished = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2).toLowerCase());
  return wished.find((code) => known.has(code)) ?? "en";
}

// Storage may be switched off in the browser (SecurityError); the page then simply forgets the choice.
function readKept() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

function keepLanguage(code) {
  try {
    localStorage.setItem(STORAGE_KEY, code);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
