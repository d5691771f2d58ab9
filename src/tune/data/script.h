// Which bytes of a rendered conversation a model has to write itself, found with the checkpoint's
// own chat template and nothing else.
//
// For the answer in message i the template is asked twice: P, what stands before it when the model
// is to write it (add_generation_prompt), and W, the conversation with it. W begins with P, and the
// rest up to the token that ends the turn is what the model has to say: words, thinking, calls,
// that token, and no header. If W does not begin with P, P is tried with thinking switched on and
// off, because templates that open the trace in the prompt do so only for answers that have one.
//
// Surprising policy: templates that rewrite history (earlier thinking is dropped when a new
// question comes) make one text wrong for all answers. So a conversation becomes as many texts as
// needed: each answer is taught in a text that stands before it exactly as it would when answering.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/chat_template.h"
#include "tune/data/messages.h"

namespace lode::tune {

// Bytes that are taught, with the weight of their message.
struct TaughtSpan {
  size_t begin, end;
  float weight;
  size_t message;
  bool ended;  // the last bytes are a token that stops generation
};

struct Script {
  std::string text;
  std::vector<text::ByteSpan> input_spans;  // as in text::RenderedPrompt
  std::vector<TaughtSpan> taught;           // in order, apart
};

struct ScriptWriter {
  const text::ChatTemplate* chat_template;
  std::string bos, eos;                 // as the template wants them
  std::vector<std::string> stop_texts;  // of the tokens that end a turn
  text::CivilTime now;                  // of templates that write the date
  Json variables = Json::object();      // of the template, for every conversation

  // Conversation `words` with the answers from message `first_taught` on; those with weight 0 are
  // not taught. `last_only`: the last answer alone.
  // Errors: what the template refuses; kUnsupported where it does not write an answer behind its
  // own prompt for answers.
  Result<std::vector<Script>> Write(const Words& words, const Json& tools, const Json& variables,
                                    size_t first_taught, bool last_only) const;
  // All messages as one text, nothing taught; with the prompt for an answer behind if asked for.
  Result<Script> WriteWhole(const Json& messages, const Json& tools, const Json& variables,
                            bool prompt_behind) const;
};

}  // namespace lode::tune
