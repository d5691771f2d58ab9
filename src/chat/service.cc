#include "chat/service.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/text.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::chat {
namespace {

uint64_t RandomSeed() {
  static thread_local std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// What the last message says, for scripts.
std::string LastText(const Json& request) {
  const Json* messages = FindKey(request, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) return "";
  const Json* content = FindKey(messages->back(), "content");
  if (content == nullptr) return "";
  return content->is_string() ? content->get<std::string>() : DumpJson(*content);
}

Sampling Merge(const Sampling& defaults, const AnswerRules& rules) {
  Sampling sampling = defaults;
  sampling.temperature = rules.temperature.value_or(defaults.temperature);
  sampling.top_p = rules.top_p.value_or(defaults.top_p);
  sampling.min_p = rules.min_p.value_or(defaults.min_p);
  sampling.typical_p = rules.typical_p.value_or(defaults.typical_p);
  sampling.top_k = rules.top_k.value_or(defaults.top_k);
  sampling.repetition_penalty = rules.repetition_penalty.value_or(defaults.repetition_penalty);
  sampling.frequency_penalty = rules.frequency_penalty.value_or(defaults.frequency_penalty);
  sampling.presence_penalty = rules.presence_penalty.value_or(defaults.presence_penalty);
  sampling.seed = rules.seed ? *rules.seed : RandomSeed();
  sampling.logit_bias = rules.logit_bias;
  sampling.logprobs = rules.logprobs;
  return sampling;
}

// When the answer has ended the context goes on with it.
void KeepTurn(const std::shared_ptr<ContextTurn>& turn, const std::vector<int32_t>& prompt,
              std::shared_ptr<const Json> dialogue, AnswerOptions* options) {
  turn->SetPrompt(prompt, std::move(dialogue));
  options->on_end = [turn](EndedAnswer answer) { turn->Commit(answer); };
}

bool HasTools(const Json& request) {
  const Json* tools = FindKey(request, "tools");
  return tools != nullptr && tools->is_array() && !tools->empty();
}

// The tools that may be called; the prompt tells of all, so that it stays what it was.
Json AllowedTools(const ChatRequest& request) {
  const Json& tools = request.template_request["tools"];
  if (request.allowed_tools.empty()) return tools;
  Json allowed = Json::array();
  for (const Json& tool : tools) {
    const Json* function = FindKey(tool, "function");
    const std::string name = GetString(function == nullptr ? tool : *function, "name");
    const auto& names = request.allowed_tools;
    if (std::find(names.begin(), names.end(), name) != names.end()) allowed.push_back(tool);
  }
  return allowed;
}

// A form that is too large has nothing to do with a prompt that is too long.
Result<std::shared_ptr<runtime::Constraint>> NoForm(
    Result<std::shared_ptr<runtime::Constraint>> made) {
  if (made.ok() || made.error().code() != Code::kNoSpace) return made;
  return Error(Code::kUnsupported, made.error().message(), made.error().hint());
}

}  // namespace

Service::Service(Backend* backend, const text::Tokenizer* tokenizer,
                 const text::ChatTemplate* chat_template, ServiceOptions options)
    : backend_(backend),
      tokenizer_(tokenizer),
      template_(chat_template),
      options_(std::move(options)) {
  if (template_ != nullptr) {
    maker_.emplace(tokenizer_, template_, options_.prompt);
    format_ = options_.output_format.value_or(text::DetectOutputFormat(template_->source()));
  }
  if (options_.scripted || options_.constraint) return;
  forms_ = std::make_unique<AnswerForms>(tokenizer_, backend_->vocabulary(), options_.stop_ids);
}

// Templates spell effort in different ways: the switches that this one reads are set, and only
// where the request has not set them itself.
void Service::ApplyEffort(const std::string& effort, Json* request) const {
  if (effort.empty() || template_ == nullptr) return;
  const auto& known = template_->ReferencedVariables();
  const Json* extra = FindKey(*request, "chat_template_kwargs");
  const auto set = [&](const char* name, Json value) {
    const bool given =
        request->contains(name) || (extra != nullptr && FindKey(*extra, name) != nullptr);
    if (given || !std::binary_search(known.begin(), known.end(), name)) return;
    (*request)[name] = std::move(value);
  };
  const bool low = effort == "minimal" || effort == "low";
  set("enable_thinking", effort != "none");
  if (low) set("low_effort", true);
  if (effort == "medium") set("medium_effort", true);
  if (effort != "none") {
    set("reasoning_effort", effort == "minimal"                    ? "low"
                            : effort == "xhigh" || effort == "max" ? "high"
                                                                   : effort);
  }
}

Json Service::TemplateRequest(const ChatRequest& request) const {
  Json variables = request.template_request;
  if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = true;
  ApplyEffort(request.effort, &variables);
  return variables;
}

Result<Prompt> Service::Render(const ChatRequest& request) const {
  return PromptOf(request, TemplateRequest(request));
}

Result<Prompt> Service::PromptOf(const ChatRequest& request, const Json& variables) const {
  const ContextTurn* turn = request.turn.get();
  if (turn == nullptr || !turn->append || !maker_) return Render(variables);
  const ContextBoundary& end = turn->text().boundaries.back();
  return maker_->Continue(variables, end.messages, end.open, *turn->text().tokens);
}

Result<Service::Beginning> Service::RenderBeginning(const ChatRequest& request) const {
  Json variables = TemplateRequest(request);
  variables["add_generation_prompt"] = false;
  LODE_ASSIGN(Prompt prompt, Render(variables));
  LODE_TRY(CheckLength(prompt.ids.size()));
  Beginning beginning;
  beginning.probes = maker_->FindProbes(variables, prompt);
  beginning.tokens = std::move(prompt.ids);
  variables.erase("add_generation_prompt");
  beginning.dialogue = std::make_shared<const Json>(std::move(variables));
  return beginning;
}

Result<Prompt> Service::Render(const Json& variables) const {
  if (!maker_) {
    return Error(Code::kUnsupported, "the model has no chat template that works",
                 "completions of plain text are answered");
  }
  return maker_->Make(variables);
}

std::vector<std::string> Service::UnusedVariables(const ChatRequest& request) const {
  if (template_ == nullptr) return {};
  const auto variables = text::MakeTemplateVariables(request.template_request, {});
  return variables.ok() ? text::UnusedVariables(*template_, *variables)
                        : std::vector<std::string>();
}

Result<void> Service::CheckLength(size_t prompt) const {
  const int64_t most = context_max();
  if (static_cast<int64_t>(prompt) < most) return {};
  return Error(Code::kNoSpace,
               Format("this model's context is %lld tokens, and the prompt has %zu",
                      static_cast<long long>(most), prompt),
               "shorten it, or start the server with a larger --context");
}

Result<TokenRequest> Service::MakeRequest(const AnswerRules& rules, const Origin& origin,
                                          std::vector<int32_t> prompt) const {
  TokenRequest made;
  made.request.sampling = Merge(options_.sampling, rules);
  LODE_TRY(runtime::ValidateSampling(made.request.sampling, backend_->vocabulary()));
  if (!rules.ignore_eos) made.request.stop_ids = options_.stop_ids;
  made.request.stop_ids.insert(made.request.stop_ids.end(), rules.stop_ids.begin(),
                               rules.stop_ids.end());
  const auto room = context_max() - static_cast<int64_t>(prompt.size());
  made.request.tokens_max =
      rules.tokens_max < 0 ? rules.tokens_max : std::min(rules.tokens_max, room);
  made.request.tokens_min = rules.tokens_min;
  if (rules.prompt_logprobs) made.request.prompt_logprobs = rules.logprobs;
  made.request.pool_hidden = rules.pool;
  made.request.priority = origin.priority;
  made.request.prompt = std::move(prompt);
  made.tenant = origin.tenant;
  made.limits = origin.limits;
  made.salt = origin.salt;
  return made;
}

Result<std::shared_ptr<runtime::Constraint>> Service::Constrain(const ChatRequest& request,
                                                                const Prompt& prompt) const {
  if (options_.scripted) return std::shared_ptr<runtime::Constraint>();
  if (options_.constraint) return options_.constraint(request, prompt);
  if (forms_ == nullptr) return std::shared_ptr<runtime::Constraint>();
  AnswerForm form;
  form.format = format_;
  form.thinking = prompt.thinking;
  if (HasTools(request.template_request)) form.tools = AllowedTools(request);
  form.limited = !request.allowed_tools.empty();
  switch (request.tool_choice) {
    case ToolChoice::kAuto:
      form.calls = AnswerForm::Calls::kAuto;
      break;
    case ToolChoice::kNone:
      form.calls = AnswerForm::Calls::kNone;
      break;
    case ToolChoice::kRequired:
      form.calls = AnswerForm::Calls::kRequired;
      break;
    case ToolChoice::kNamed:
      form.calls = AnswerForm::Calls::kNamed;
      break;
  }
  form.named = request.tool_name;
  form.parallel = request.parallel_calls;
  form.response_format = request.response_format;
  AnswerLimits limits;
  limits.thinking_tokens_max = request.thinking_tokens_max;
  return NoForm(forms_->Make(form, limits));
}

Result<std::unique_ptr<Answer>> Service::Chat(const ChatRequest& request,
                                              std::function<void()> wake) {
  const Json variables = TemplateRequest(request);
  LODE_ASSIGN(const Prompt prompt, PromptOf(request, variables));
  LODE_TRY(CheckLength(prompt.ids.size()));
  LODE_ASSIGN(TokenRequest made, MakeRequest(request.rules, request.origin, prompt.ids));
  made.said = LastText(request.template_request);
  const bool appends = request.turn != nullptr && request.turn->append;
  if (appends) {  // the text does not tell where its tokens end, but the turn does
    made.request.probes = {{request.turn->text().size(), runtime::PointRole::kTurn}};
  } else if (!options_.scripted) {
    made.request.probes = maker_->FindProbes(variables, prompt);
  }
  AnswerOptions options;
  options.choices = request.rules.choices;
  options.prompt_tokens = static_cast<int64_t>(prompt.ids.size());
  options.stops = request.rules.stops;
  options.include_stop = request.rules.include_stop;
  // The parsers see control tokens: some formats are made of them.
  options.parsing.thinking = prompt.thinking;
  options.parsing.format = format_;
  options.parsing.tool_calls = HasTools(variables) && request.tool_choice != ToolChoice::kNone;
  if (options.parsing.tool_calls) {
    options.parsing.tools =
        std::make_shared<const text::ToolSchemas>(text::ToolSchemasFromJson(variables["tools"]));
  }
  options.parsing.force_nonempty_content = GetBool(variables, "force_nonempty_content");
  if (const Json* extra = FindKey(variables, "chat_template_kwargs"); extra != nullptr) {
    options.parsing.force_nonempty_content |= GetBool(*extra, "force_nonempty_content");
  }
  options.parsing.id_seed = RandomSeed();
  if (request.turn != nullptr) {
    Json dialogue = variables;
    dialogue.erase("add_generation_prompt");
    KeepTurn(request.turn, prompt.ids, std::make_shared<const Json>(std::move(dialogue)), &options);
  }
  auto answer = std::make_unique<Answer>(backend_, tokenizer_, std::move(options), std::move(wake));
  for (int choice = 0; choice < request.rules.choices; ++choice) {
    TokenRequest own = made;
    own.request.sampling.choice = static_cast<uint32_t>(choice);
    LODE_ASSIGN(own.request.constraint, Constrain(request, prompt));
    answer->Submit(choice, std::move(own));
  }
  return answer;
}

Result<std::unique_ptr<Answer>> Service::Complete(const std::vector<CompletionRequest>& requests,
                                                  std::function<void()> wake) {
  const AnswerRules& rules = requests.front().rules;
  AnswerOptions options;
  options.parse = false;
  options.choices = static_cast<int>(requests.size()) * rules.choices;
  options.stops = rules.stops;
  options.include_stop = rules.include_stop;
  options.skip_special = rules.skip_special;
  std::vector<TokenRequest> made;
  for (const CompletionRequest& request : requests) {
    LODE_TRY(CheckLength(request.prompt.size()));
    options.prompt_tokens += static_cast<int64_t>(request.prompt.size());
    if (request.turn != nullptr) KeepTurn(request.turn, request.prompt, nullptr, &options);
    LODE_ASSIGN(TokenRequest one, MakeRequest(request.rules, request.origin, request.prompt));
    one.said = request.said;
    made.push_back(std::move(one));
  }
  auto answer = std::make_unique<Answer>(backend_, tokenizer_, std::move(options), std::move(wake));
  AnswerForm formed;
  formed.plain = true;
  formed.response_format = requests.front().response_format;
  int index = 0;
  for (const TokenRequest& one : made) {
    for (int choice = 0; choice < rules.choices; ++choice) {
      TokenRequest own = one;
      own.request.sampling.choice = static_cast<uint32_t>(choice);
      if (!formed.response_format.is_null() && forms_ != nullptr) {
        LODE_ASSIGN(own.request.constraint, NoForm(forms_->Make(formed)));
      }
      answer->Submit(index++, std::move(own));
    }
  }
  return answer;
}

}  // namespace lode::chat
