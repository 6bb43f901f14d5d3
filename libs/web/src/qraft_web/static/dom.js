// Build DOM nodes from data. Text only ever becomes text nodes: there is no way in here to turn data into markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const REFUSED_ATTRIBUTE = /^(on|style$|srcdoc$)/i;

/** Return an HTML element. `attributes.on` maps event names to listeners; null, undefined and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an SVG element; geometry goes into attributes, so that no inline style is needed. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

/** Return the element with this id; a missing one is our own mistake. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`expected an element with the id ${id} in the page`);
  return found;
}

/** Replace what a node holds. Null children are left out. */
export function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter(isContent));
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (REFUSED_ATTRIBUTE.test(name)) {
      throw new Error(`refused the attribute ${name}: the page's content policy allows no inline code or style`);
    } else if (isContent(value) && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat().filter(isContent));
  return node;
}

function isContent(child) {
  return child !== null && child !== undefined;
}
