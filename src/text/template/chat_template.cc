#include "text/template/chat_template.h"

#include <algorithm>

#include "base/text.h"
#include "base/utf8.h"
#include "text/template/functions.h"
#include "text/template/interpreter.h"
#include "text/template/json_value.h"
#include "text/template/parser.h"

namespace lode::text {
namespace {

// The largest published template has 30 KB.
constexpr size_t kSourceBytesMax = 4u << 20;

}  // namespace

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  if (source.size() > kSourceBytesMax) {
    return Error(Code::kBadInput, "a chat template of " + HumanBytes(source.size()) +
                                      " is not one; at most " + HumanBytes(kSourceBytesMax));
  }
  if (!IsValidUtf8(source)) {
    return Error(Code::kBadInput, "the chat template is not valid UTF-8");
  }
  LODE_ASSIGN(std::unique_ptr<jinja::Template> parsed, jinja::ParseTemplate(source));
  std::unique_ptr<ChatTemplate> made(new ChatTemplate(std::move(parsed)));
  made->source_ = source;
  return made;
}

ChatTemplate::ChatTemplate(std::unique_ptr<jinja::Template> parsed) : parsed_(std::move(parsed)) {
  for (const int name : parsed_->free_names) {
    if (!jinja::IsGlobal(parsed_->names[name])) referenced_.push_back(parsed_->names[name]);
  }
  std::sort(referenced_.begin(), referenced_.end());
}

ChatTemplate::~ChatTemplate() = default;

Result<std::string> ChatTemplate::Render(const Json& variables,
                                         const RenderOptions& options) const {
  LODE_ASSIGN(RenderedPrompt prompt, RenderWithOrigin(variables, options));
  return std::move(prompt.text);
}

Result<RenderedPrompt> ChatTemplate::RenderWithOrigin(const Json& variables,
                                                      const RenderOptions& options) const {
  jinja::Limits limits;
  limits.steps_max = options.limits.steps_max;
  limits.output_bytes_max = options.limits.output_bytes_max;
  limits.memory_bytes_max = options.limits.memory_bytes_max;
  limits.call_depth_max = options.limits.call_depth_max;
  jinja::Context context(limits, options.now ? *options.now : LocalNow());

  const auto resolve = [&](jinja::Context* ctx, const std::string& name, jinja::Value* value) {
    const Json* json = FindKey(variables, name);
    if (json == nullptr) return true;
    const bool trusted = std::find(options.trusted.begin(), options.trusted.end(), name) !=
                         options.trusted.end();
    return jinja::FromJson(ctx, *json, !trusted, value);
  };
  RenderedPrompt prompt;
  jinja::Interpreter interpreter(*parsed_, &context, resolve);
  if (!interpreter.Run(&prompt.text, &prompt.input_spans, &prompt.generated_spans)) {
    const bool limit = context.failure() == jinja::Failure::kLimit;
    return Error(limit ? Code::kNoSpace : Code::kBadInput,
                 "template line " + std::to_string(interpreter.error_line()) + ": " +
                     context.error());
  }
  return prompt;
}

}  // namespace lode::text
