// Header badges and banners: provenance, limits, connection, and everything that stops the desk from trading.

import { byId, h, replace } from "/web/dom.js";
import { badge, connectionBadge, originBadge, profileBadge } from "/web/ui.js";
import { reasonText } from "/desk/static/reasons.js";

export function drawBadges(page) {
  const { i18n, desk, connection } = page;
  const about = desk ? [
    badge(`${desk.market} · ${desk.interval}`),
    desk.origin === null ? null : originBadge(i18n, desk.origin), // null: no bar yet, so nothing to vouch for
    speedBadge(page, desk),
    desk.profile === null ? null : profileBadge(i18n, desk.profile),
  ] : [];
  replace(byId("badges"), about, connectionBadge(i18n, connection.name));
}

function speedBadge({ i18n, format }, { origin, replay_speed: speed }) {
  if (origin === "real" || speed === null) return null;
  return badge(i18n.t("page.replay_speed", { speed: format.fixed(speed, speed < 10 ? 1 : 0) }));
}

export function drawBanners(page) {
  const found = page.desk ? [lost(page), simulated(page), killed(page), demo(page), held(page)] : [];
  const shown = found.filter((banner) => banner !== null);
  const key = JSON.stringify(shown);
  const node = byId("banners");
  if (node.dataset.key === key) return; // an unchanged alert is not read out again
  node.dataset.key = key;
  replace(node, shown.map(({ kind, role, title, text }) => h("div", { class: `banner banner-${kind}`, role }, h("strong", {}, title), h("span", {}, text))));
}

function lost({ i18n, format, desk, connection }) {
  if (connection.name !== "lost") return null;
  const text = i18n.t("banner.lost.text", { as_of: format.instant(desk.as_of), why: connection.error.message });
  return { kind: "danger banner-lost", role: "alert", title: i18n.t("banner.lost"), text };
}

function simulated({ i18n, desk }) {
  if (desk.origin === null || desk.origin === "real" || desk.origin === "replay") return null;
  return { kind: "hazard", role: "note", title: i18n.t("origin.simulated.title"), text: i18n.t("origin.simulated.text") };
}

function killed({ i18n, format, desk }) {
  const { engaged, reason, actor, at } = desk.kill_switch;
  if (!engaged) return null;
  const text = i18n.t("banner.kill.text", { why: reason ?? "–", actor: actor ?? "–", at: format.instant(at) });
  return { kind: "danger", role: "alert", title: i18n.t("banner.kill"), text };
}

function demo({ i18n, desk }) {
  if (desk.profile === "standard" || desk.profile === null) return null;
  return { kind: "warn", role: "note", title: i18n.t("banner.demo"), text: i18n.t("banner.demo.text", { profile: desk.profile }) };
}

function held({ i18n, desk }) {
  if (!desk.hold) return null;
  return { kind: "note", role: "note", title: i18n.t("banner.hold"), text: i18n.t("banner.hold.text", { why: reasonText(i18n, desk.hold_reason) }) };
}
