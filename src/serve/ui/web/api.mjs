// Talking to the server that this page came from. Paths are relative, so that it also works below a
// proxy's prefix.
import {EventReader} from './sse.mjs';

export class ApiError extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;          // 0: the connection failed
    this.retryAfter = retryAfter;  // seconds; 0: not said
  }
}

function headers(key) {
  const made = {'Content-Type': 'application/json'};
  if (key) made.Authorization = 'Bearer ' + key;
  return made;
}

async function refusal(response) {
  let message = 'The server answered ' + response.status + '.';
  try {
    const body = await response.json();
    if (typeof body?.error?.message === 'string') message = body.error.message;
  } catch (error) {
    // No JSON: the status has to do.
  }
  return new ApiError(message, response.status, Number(response.headers.get('Retry-After')) || 0);
}

async function get(path, key) {
  let response;
  try {
    response = await fetch(path, {headers: headers(key), cache: 'no-store'});
  } catch (error) {
    throw new ApiError('The server cannot be reached.', 0, 0);
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

// {name, context}: context is 0 where the server does not say.
export async function fetchModel(key) {
  const first = (await get('v1/models', key))?.data?.[0];
  return {name: String(first?.id ?? 'model'), context: Number(first?.max_model_len) || 0};
}

export const fetchStatus = (key) => get('lode/status', key);

// Calls `onChunk` with each chunk of an answer that is streamed.
export async function streamChat(request, key, signal, onChunk) {
  let response;
  try {
    response = await fetch('v1/chat/completions',
                           {method: 'POST', headers: headers(key), body: JSON.stringify(request),
                            signal, cache: 'no-store'});
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError('The server cannot be reached.', 0, 0);
  }
  if (!response.ok) throw await refusal(response);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const events = new EventReader();
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new ApiError('The connection broke off.', 0, 0);
    }
    for (const data of events.push(decoder.decode(part.value, {stream: !part.done}))) {
      if (data === '[DONE]') return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(String(chunk.error.message ?? 'failed'), 200, 0);
      onChunk(chunk);
    }
    if (part.done) throw new ApiError('The connection broke off.', 0, 0);
  }
}

// Folds the chunks of one answer into a node of the tree.
export class AnswerBuilder {
  constructor(node, now) {
    this.node = node;
    this.started = now;
    this.firstAt = 0;
    this.thoughtUntil = 0;
    this.chunks = 0;
    this.usage = null;
    this.progress = null;  // {processed, total, cache} while the prompt is read
  }

  add(chunk, now) {
    if (chunk.prompt_progress) this.progress = chunk.prompt_progress;
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    const thought = delta.reasoning_content ?? delta.reasoning;
    const calls = delta.tool_calls ?? [];
    if ((thought || delta.content || calls.length > 0)) {
      this.chunks += 1;
      this.progress = null;
      if (!this.firstAt) this.firstAt = now;
      if (thought) this.thoughtUntil = now;
    }
    if (thought) this.node.reasoning += thought;
    if (delta.content) this.node.content += delta.content;
    for (const call of calls) this.#addCall(call);
    if (choice.finish_reason) this.node.finish = choice.finish_reason;
  }

  #addCall(delta) {
    const calls = this.node.calls;
    const index = delta.index ?? calls.length;
    if (index > calls.length || index > 1000) return;
    if (!calls[index]) calls.push({id: '', name: '', arguments: ''});
    const call = calls[index];
    if (delta.id) call.id = delta.id;
    if (delta.function?.name) call.name = delta.function.name;
    if (delta.function?.arguments) call.arguments += delta.function.arguments;
  }

  // What there is to say of its speed; numbers that are not known are null.
  stats(now) {
    const tokens = this.usage?.completion_tokens ?? this.chunks;
    const seconds = (now - this.firstAt) / 1000;
    return {
      tokens,
      thinking: this.usage?.completion_tokens_details?.reasoning_tokens ?? null,
      prompt: this.usage?.prompt_tokens ?? null,
      cached: this.usage?.prompt_tokens_details?.cached_tokens ?? null,
      firstSeconds: this.firstAt ? (this.firstAt - this.started) / 1000 : null,
      thoughtSeconds: this.thoughtUntil ? (this.thoughtUntil - this.firstAt) / 1000 : null,
      rate: this.firstAt && tokens > 1 && seconds > 0.05 ? (tokens - 1) / seconds : null,
    };
  }
}
