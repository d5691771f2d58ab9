// Chat templates: the Jinja program of a checkpoint that turns messages into the model's prompt.
//
// Renders as Hugging Face's apply_chat_template does: Jinja2's language in its immutable sandbox,
// with trim_blocks, lstrip_blocks, loop controls, {% generation %}, a tojson that writes plain JSON,
// raise_exception and strftime_now. What it is not: a Jinja for web pages (no other files, no
// automatic escaping, and no urlize, wordwrap, pprint, random, lipsum: an error when reached).
//
// Templates and requests are untrusted. Every render has limits of steps, memory, output and depth;
// beyond them is an error, never a hang or a crash.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/civil_time.h"
#include "text/template/span.h"

namespace lode::text {

namespace jinja {
struct Template;
}

struct RenderLimits {
  uint64_t steps_max = 20'000'000;        // about a second of work
  size_t output_bytes_max = 64u << 20;    // of the prompt, and of any string on the way
  size_t memory_bytes_max = 512u << 20;   // of all values alive at once
  int call_depth_max = 200;               // macros within macros
};

struct RenderOptions {
  std::optional<CivilTime> now;  // for strftime_now; the local time when not given
  RenderLimits limits;
  // Variables whose text comes from the model's own files: their bytes do not count as input.
  std::vector<std::string> trusted = {"bos_token", "eos_token", "pad_token", "unk_token",
                                      "sep_token", "cls_token", "mask_token"};
};

struct RenderedPrompt {
  std::string text;
  // The bytes of `text` that came from the request rather than from the template, sorted and apart.
  // Exact to the byte through every string operation; punctuation that the engine adds (quotes of
  // tojson, separators of join) counts as the template's, an escaped character as its original.
  // Whoever tokenizes should recognise control tokens outside these spans only.
  std::vector<ByteSpan> input_spans;
  // What {% generation %} and {% block %} enclose, in order of their ends: the assistant's words, for
  // a training mask. Blocks inside macros are not listed.
  std::vector<ByteSpan> generated_spans;
};

// Immutable after Parse; any number of threads may render at once.
class ChatTemplate {
 public:
  // Errors: kBadInput, "template line N: ...", for anything Jinja would refuse to compile.
  static Result<std::unique_ptr<ChatTemplate>> Parse(std::string_view source);
  ~ChatTemplate();

  // `variables` is an object: messages, tools, add_generation_prompt, bos_token, any other.
  // Errors: kBadInput with the line, for raise_exception (its message) and for what Jinja would
  // raise; kNoSpace beyond a limit.
  Result<std::string> Render(const Json& variables, const RenderOptions& options = {}) const;
  Result<RenderedPrompt> RenderWithOrigin(const Json& variables,
                                          const RenderOptions& options = {}) const;

  // Names that the template reads from its variables, sorted; functions such as range are not among
  // them. Anything else in a request has no effect.
  const std::vector<std::string>& ReferencedVariables() const { return referenced_; }
  // As it was parsed; what calls of tools look like can be read off it (output_format.h).
  const std::string& source() const { return source_; }

 private:
  explicit ChatTemplate(std::unique_ptr<jinja::Template> parsed);

  std::unique_ptr<jinja::Template> parsed_;
  std::vector<std::string> referenced_;
  std::string source_;
};

}  // namespace lode::text
