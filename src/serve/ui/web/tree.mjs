// A conversation is a tree: editing a message or asking again makes a sibling, and each node knows
// which of its children is being read. Plain data, so that it can be stored as it is.
//
//   conversation: {version, id, title, created, updated, system, next, nodes: {id: node}}
//   node: {id, parent, children: [ids], chosen: index or -1, role, ...}
//   roles: root; user {content}; assistant {content, reasoning, calls, finish, stats, error};
//          tool {results: [{id, content}]}

export const ROOT = 'n0';

export function newConversation(id, now) {
  return {version: 1, id, title: '', created: now, updated: now, next: 1,
          nodes: {[ROOT]: {id: ROOT, parent: null, children: [], chosen: -1, role: 'root'}}};
}

// Adds a node below `parent` and goes there.
export function addNode(conversation, parent, fields) {
  const id = 'n' + conversation.next++;
  const node = {...fields, id, parent, children: [], chosen: -1};
  conversation.nodes[id] = node;
  const above = conversation.nodes[parent];
  above.children.push(id);
  above.chosen = above.children.length - 1;
  return node;
}

export const newAnswer = () => ({role: 'assistant', content: '', reasoning: '', calls: [],
                                 finish: '', error: '', stats: null});

// What is being read, from the first message to the last one.
export function currentPath(conversation) {
  const path = [];
  let node = conversation.nodes[ROOT];
  while (node.chosen >= 0) {
    node = conversation.nodes[node.children[node.chosen]];
    path.push(node);
  }
  return path;
}

export function lastNode(conversation) {
  return currentPath(conversation).at(-1) ?? conversation.nodes[ROOT];
}

// The nodes above `id`, the first message first, without the root.
export function ancestors(conversation, id) {
  const path = [];
  for (let node = conversation.nodes[id]; node.parent !== null;
       node = conversation.nodes[node.parent]) {
    path.push(node);
  }
  return path.reverse();
}

// Goes to the branch that `id` is on. Below it, what was read there last.
export function goTo(conversation, id) {
  for (const node of ancestors(conversation, id)) {
    const above = conversation.nodes[node.parent];
    above.chosen = above.children.indexOf(node.id);
  }
}

// {ids, index}: a node among those that part from the same place.
export function siblings(conversation, id) {
  const ids = conversation.nodes[conversation.nodes[id].parent].children;
  return {ids, index: ids.indexOf(id)};
}

// Removes a node and all below it.
export function removeNode(conversation, id) {
  const node = conversation.nodes[id];
  const above = conversation.nodes[node.parent];
  const index = above.children.indexOf(id);
  above.children.splice(index, 1);
  if (above.chosen >= index) above.chosen -= 1;
  if (above.chosen < 0 && above.children.length > 0) above.chosen = 0;
  const doomed = [id];
  while (doomed.length > 0) {
    const next = doomed.pop();
    doomed.push(...conversation.nodes[next].children);
    delete conversation.nodes[next];
  }
}

// Rows of a picture of the tree, from top to bottom: a branch point moves its children one column
// to the right. {node, column, above: row of the parent or -1, current}
export function rows(conversation) {
  const current = new Set(currentPath(conversation).map((node) => node.id));
  const made = [];
  const root = conversation.nodes[ROOT];
  const waiting = root.children.map((id) => ({id, column: root.children.length > 1 ? 1 : 0,
                                              above: -1})).reverse();
  while (waiting.length > 0) {
    const {id, column, above} = waiting.pop();
    const node = conversation.nodes[id];
    const row = made.length;
    made.push({node, column, above, current: current.has(id)});
    const inner = column + (node.children.length > 1 ? 1 : 0);
    for (const child of [...node.children].reverse()) {
      waiting.push({id: child, column: inner, above: row});
    }
  }
  return made;
}

function answerMessage(node) {
  const message = {role: 'assistant', content: node.content};
  if (node.reasoning) message.reasoning_content = node.reasoning;
  if (node.calls.length > 0) {
    message.tool_calls = node.calls.map((call) => (
        {id: call.id, type: 'function', function: {name: call.name, arguments: call.arguments}}));
    if (!node.content) message.content = null;
  }
  return message;
}

// The messages of a request whose last one is the node `id`. The same nodes give the same messages,
// so that the server finds what it has computed of them.
export function toMessages(conversation, id, system) {
  const messages = system ? [{role: 'system', content: system}] : [];
  for (const node of ancestors(conversation, id)) {
    if (node.role === 'user') messages.push({role: 'user', content: node.content});
    if (node.role === 'assistant') messages.push(answerMessage(node));
    if (node.role === 'tool') {
      for (const result of node.results) {
        messages.push({role: 'tool', tool_call_id: result.id, content: result.content});
      }
    }
  }
  return messages;
}

const text = (value) => (typeof value === 'string' ? value : '');

function checkedNode(raw) {
  const node = {id: text(raw.id), parent: raw.parent === null ? null : text(raw.parent),
                children: Array.from(raw.children ?? [], text), chosen: -1, role: text(raw.role)};
  node.chosen = Math.min(Number.isInteger(raw.chosen) ? raw.chosen : -1, node.children.length - 1);
  if (node.role === 'user') node.content = text(raw.content);
  if (node.role === 'assistant') {
    Object.assign(node, newAnswer(), {content: text(raw.content), reasoning: text(raw.reasoning),
                                      finish: text(raw.finish), error: text(raw.error)});
    node.calls = Array.from(raw.calls ?? [], (call) => (
        {id: text(call?.id), name: text(call?.name), arguments: text(call?.arguments)}));
    if (raw.stats && typeof raw.stats === 'object') {
      node.stats = Object.fromEntries(Object.entries(raw.stats).filter(
          ([, value]) => value === null || typeof value === 'number'));
    }
  }
  if (node.role === 'tool') {
    node.results = Array.from(raw.results ?? [], (one) => (
        {id: text(one?.id), content: text(one?.content)}));
  }
  return node;
}

// A conversation out of a file or of storage; null where it is none. What it links must be a tree.
export function checkedConversation(raw) {
  try {
    return checkedTree(raw);
  } catch (error) {
    return null;  // lists that are none
  }
}

function checkedTree(raw) {
  if (raw?.version !== 1 || typeof raw.nodes !== 'object' || raw.nodes === null) return null;
  const made = newConversation(text(raw.id), Number(raw.created) || 0);
  made.title = text(raw.title);
  made.updated = Number(raw.updated) || 0;
  made.nodes = {};
  let reached = 0;
  const waiting = [[ROOT, null]];
  while (waiting.length > 0) {
    const [id, parent] = waiting.pop();
    if (!Object.hasOwn(raw.nodes, id) || Object.hasOwn(made.nodes, id)) return null;
    const node = checkedNode(raw.nodes[id] ?? {});
    if (node.id !== id || node.parent !== parent || !/^n\d{1,9}$/.test(id)) return null;
    if ((node.role === 'root') !== (id === ROOT)) return null;
    if (!['root', 'user', 'assistant', 'tool'].includes(node.role)) return null;
    made.nodes[id] = node;
    made.next = Math.max(made.next, Number(id.slice(1)) + 1);
    reached += 1;
    for (const child of node.children) waiting.push([child, id]);
  }
  return reached === Object.keys(raw.nodes).length ? made : null;
}
