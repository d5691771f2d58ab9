// Markdown as models write it, to a tree of plain objects; markdown_dom.mjs makes elements of that.
// The text is hostile: every loop goes forward, nesting is bounded, and nothing is ever HTML.
//
//   blocks: {kind: heading (level), paragraph, code (language, text), quote (blocks),
//            list (ordered, start, items: [{task, blocks}]), table (head, align, rows), rule}
//   inline: {kind: text, code, strong, em, strike, link (href), break}, with `text` or `children`
import {parseInline} from './markdown_inline.mjs';

const DEPTH_MAX = 12;
const COLUMNS_MAX = 64;

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}>[ ]?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*))?$/;
const TASK = /^\[([ xX])\][ \t]+/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

const blank = (line) => line.trim() === '';
const indentOf = (line) => line.length - line.trimStart().length;

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);
}

// Tabs that indent become blanks; those in code stay.
function linesOf(text) {
  let fence = null;
  return text.replace(/\r\n?/g, '\n').split('\n').map((line) => {
    const mark = /^[ \t]*(`{3,}|~{3,})/.exec(line)?.[1];
    if (mark && fence === null) fence = mark;
    else if (mark?.startsWith(fence)) fence = null;
    else if (fence !== null) return line;
    return line.replace(/^[ \t]+/, (blanks) => blanks.replaceAll('\t', '    '));
  });
}

// Each block with the lines that it came from, so that who draws it again sees what has changed.
export function parseBlocks(text, depth = 0) {
  const lines = linesOf(text);
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, end] = parseBlock(lines, at, depth);
    block.source = lines.slice(at, end).join('\n');
    blocks.push(block);
    at = end;
  }
  return blocks;
}

function parseBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return parseCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const words = (heading[2] ?? '').replace(/(?:^|[ \t])#+[ \t]*$/, '').trim();
    return [{kind: 'heading', level: heading[1].length, children: parseInline(words)}, at + 1];
  }
  if (RULE.test(line)) return [{kind: 'rule'}, at + 1];
  if (depth < DEPTH_MAX && QUOTE.test(line)) return parseQuote(lines, at, depth);
  if (depth < DEPTH_MAX && ITEM.test(line)) return parseList(lines, at, depth);
  if (line.includes('|') && at + 1 < lines.length && DIVIDER.test(lines[at + 1])) {
    const table = parseTable(lines, at);
    if (table) return table;
  }
  return parseParagraph(lines, at, depth);
}

function parseCode(lines, at, [, indent, mark, language]) {
  const text = [];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end].trim();
    if (line.length >= mark.length && line === mark[0].repeat(line.length)) break;
    const own = Math.min(indent.length, indentOf(lines[end]));
    text.push(lines[end].slice(own));
  }
  return [{kind: 'code', language: language.trim().split(/\s/)[0].slice(0, 40),
           text: text.join('\n')}, Math.min(end + 1, lines.length)];
}

function parseQuote(lines, at, depth) {
  const inner = [];
  let end = at;
  for (; end < lines.length && !blank(lines[end]); end += 1) {
    if (QUOTE.test(lines[end])) inner.push(lines[end].replace(QUOTE, ''));
    else if (startsBlock(lines[end]) || ITEM.test(lines[end])) break;
    else inner.push(lines[end]);  // a lazy line of its last paragraph
  }
  return [{kind: 'quote', blocks: parseBlocks(inner.join('\n'), depth + 1)}, end];
}

// The lines of one item, without their indentation; [lines, end].
function takeItem(lines, at, match) {
  const [, indent, mark, gap, rest] = match;
  const width = indent.length + mark.length + (gap && gap.length <= 4 ? gap.length : 1);
  const least = Math.min(width, indent.length + 2);  // models indent as they like
  const inner = [rest ?? ''];
  let fence = null;
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    if (blank(line)) {
      let next = end + 1;
      while (next < lines.length && blank(lines[next])) next += 1;
      if (next === lines.length || indentOf(lines[next]) < least) break;
      inner.push('');
      continue;
    }
    const inside = indentOf(line) >= least;
    if (!inside && (fence === null || ITEM.test(line)) &&
        (ITEM.test(line) || startsBlock(line) || blank(lines[end - 1]))) {
      break;
    }
    const own = line.slice(Math.min(width, indentOf(line)));
    const mark = FENCE.exec(own);
    if (mark) fence = fence === null ? mark[2] : null;
    inner.push(own);
  }
  return [inner, end];
}

function parseList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const ordered = /\d/.test(first[2]);
  const list = {kind: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1, items: []};
  let end = at;
  while (end < lines.length) {
    let next = end;
    while (next < lines.length && blank(lines[next])) next += 1;
    const match = next < lines.length ? ITEM.exec(lines[next]) : null;
    if (!match || RULE.test(lines[next]) || /\d/.test(match[2]) !== ordered ||
        match[1].length > first[1].length + 3) {
      break;
    }
    const [inner, after] = takeItem(lines, next, match);
    const task = TASK.exec(inner[0]);
    if (task) inner[0] = inner[0].slice(task[0].length);
    list.items.push({task: task ? task[1] !== ' ' : null,
                     blocks: parseBlocks(inner.join('\n'), depth + 1)});
    end = after;
  }
  return [list, end];
}

// Cells of a line; a bar behind a backslash or inside code is no border.
function cellsOf(line) {
  const cells = [];
  let cell = '', code = false;
  const row = line.trim().replace(/^\|/, '');
  for (let i = 0; i < row.length; i += 1) {
    if (row[i] === '\\' && row[i + 1] === '|') {
      cell += '|';
      i += 1;
    } else if (row[i] === '|' && !code) {
      cells.push(cell.trim());
      cell = '';
    } else {
      if (row[i] === '`') code = !code && row.indexOf('`', i + 1) > 0;
      cell += row[i];
    }
  }
  if (cell.trim() !== '' || !row.endsWith('|')) cells.push(cell.trim());
  return cells;
}

function parseTable(lines, at) {
  const head = cellsOf(lines[at]);
  const marks = cellsOf(lines[at + 1]);
  if (head.length !== marks.length || head.length > COLUMNS_MAX) return null;
  const align = marks.map((mark) => (
      mark.endsWith(':') ? (mark.startsWith(':') ? 'center' : 'right') : 'left'));
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && !blank(lines[end]) && !startsBlock(lines[end]); end += 1) {
    const cells = cellsOf(lines[end]).slice(0, head.length);
    while (cells.length < head.length) cells.push('');
    rows.push(cells.map(parseInline));
  }
  return [{kind: 'table', head: head.map(parseInline), align, rows}, end];
}

function parseParagraph(lines, at, depth) {
  const own = [];
  let end = at;
  for (; end < lines.length && !blank(lines[end]); end += 1) {
    if (end > at) {
      if (startsBlock(lines[end])) break;
      // A number in the middle of a sentence begins no list, a first one does.
      const item = depth < DEPTH_MAX ? ITEM.exec(lines[end]) : null;
      if (item && item[4] && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1)) break;
      if (end + 1 < lines.length && lines[end].includes('|') && DIVIDER.test(lines[end + 1])) break;
    }
    own.push(lines[end].trimStart());
  }
  return [{kind: 'paragraph', children: parseInline(own.join('\n'))}, end];
}
