// Making elements. Text only ever becomes text: nothing in this page parses HTML.

// h('button', {class: 'quiet', onclick: f, 'aria-label': 'Stop'}, 'Stop', icon('stop'))
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

// One of the symbols in index.html.
export function icon(name) {
  return svg('svg', {class: 'icon', 'aria-hidden': 'true', viewBox: '0 0 24 24'},
             svg('use', {href: '#icon-' + name}));
}

export function button(label, name, onclick, extra = {}) {
  return h('button', {type: 'button', class: 'quiet', 'aria-label': label, title: label, onclick,
                      ...extra}, icon(name));
}

export const byId = (id) => document.getElementById(id);
