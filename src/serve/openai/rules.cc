#include "serve/openai/rules.h"

#include <cmath>
#include <limits>
#include <utility>

#include "base/text.h"

namespace lode::serve {
namespace {

constexpr size_t kStopsMax = 64, kStopBytesMax = 1024;
constexpr int64_t kTokensMax = int64_t{1} << 31;

Result<std::vector<runtime::LogitBias>> ReadBias(const Fields& fields, int64_t vocabulary) {
  std::vector<runtime::LogitBias> biases;
  LODE_ASSIGN(const Json* object, fields.Object("logit_bias"));
  if (object == nullptr) return biases;
  if (object->size() > static_cast<size_t>(runtime::kLogitBiasMax)) {
    return fields.Bad("logit_bias", Format("has %zu entries, and may have %lld", object->size(),
                                           static_cast<long long>(runtime::kLogitBiasMax)));
  }
  for (const auto& [key, value] : object->items()) {
    int64_t token = 0;
    if (!ParseInt64(key, &token) || token < 0 || token >= vocabulary) {
      return fields.Bad("logit_bias", Quote(key, 40) + " is not the id of a token");
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100.0)) {
      return fields.Bad("logit_bias", "the bias of token " + key + " must be from -100 to 100");
    }
    // OpenAI's scale: -100 is never.
    const auto bias = value.get<float>();
    biases.push_back({static_cast<int32_t>(token),
                      bias <= -100.0f ? -std::numeric_limits<float>::infinity() : bias});
  }
  return biases;
}

Result<std::vector<int32_t>> ReadIds(const Fields& fields, const char* name, int64_t vocabulary) {
  std::vector<int32_t> ids;
  LODE_ASSIGN(const Json* list, fields.Array(name));
  if (list == nullptr) return ids;
  for (const Json& id : *list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocabulary) {
      return fields.Bad(name, Quote(DumpJson(id), 40) + " is not the id of a token");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

Result<void> ReadSampling(const Fields& fields, const FieldLimits& limits,
                          chat::AnswerRules* rules) {
  LODE_ASSIGN(rules->temperature, fields.Number("temperature", 0.0, 100.0));
  LODE_ASSIGN(rules->top_p, fields.Number("top_p", 0.0, 1.0));
  LODE_ASSIGN(rules->min_p, fields.Number("min_p", 0.0, 1.0));
  LODE_ASSIGN(rules->typical_p, fields.Number("typical_p", 0.0, 1.0));
  LODE_ASSIGN(rules->repetition_penalty, fields.Number("repetition_penalty", 0.01, 100.0));
  LODE_ASSIGN(rules->frequency_penalty, fields.Number("frequency_penalty", -100.0, 100.0));
  LODE_ASSIGN(rules->presence_penalty, fields.Number("presence_penalty", -100.0, 100.0));
  LODE_ASSIGN(rules->top_k, fields.Integer("top_k", -1, kTokensMax));
  if (rules->top_k && *rules->top_k < 0) rules->top_k = 0;
  if (rules->top_p && *rules->top_p == 0.0) rules->top_k = 1;  // the likeliest alone
  if (rules->top_p && *rules->top_p == 0.0) rules->top_p = 1.0;
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  LODE_ASSIGN(const auto seed, fields.Integer("seed", kLeast, kMost));
  if (seed) rules->seed = static_cast<uint64_t>(*seed);
  LODE_ASSIGN(rules->logit_bias, ReadBias(fields, limits.vocabulary));
  return {};
}

}  // namespace

Result<chat::AnswerRules> ReadRules(const Fields& fields, const FieldLimits& limits) {
  chat::AnswerRules rules;
  LODE_TRY(ReadSampling(fields, limits, &rules));
  LODE_ASSIGN(const auto choices, fields.Integer("n", 1, limits.choices_max));
  rules.choices = static_cast<int>(choices.value_or(1));
  LODE_ASSIGN(rules.stops, fields.Strings("stop", kStopsMax, kStopBytesMax));
  LODE_ASSIGN(const auto include, fields.Bool("include_stop_str_in_output"));
  rules.include_stop = include.value_or(false);
  LODE_ASSIGN(rules.stop_ids, ReadIds(fields, "stop_token_ids", limits.vocabulary));
  LODE_ASSIGN(const auto tokens_min, fields.Integer("min_tokens", 0, kTokensMax));
  rules.tokens_min = tokens_min.value_or(0);
  LODE_ASSIGN(const auto ignore_eos, fields.Bool("ignore_eos"));
  rules.ignore_eos = ignore_eos.value_or(false);
  LODE_ASSIGN(const auto skip_special, fields.Bool("skip_special_tokens"));
  rules.skip_special = skip_special.value_or(true);
  return rules;
}

Result<StreamRules> ReadStreamRules(const Fields& fields) {
  StreamRules rules;
  LODE_ASSIGN(const auto stream, fields.Bool("stream"));
  rules.stream = stream.value_or(false);
  LODE_ASSIGN(const Json* options, fields.Object("stream_options"));
  if (options != nullptr) {
    const Fields inner(*options, fields.Path("stream_options"));
    LODE_ASSIGN(const auto usage, inner.Bool("include_usage"));
    LODE_ASSIGN(const auto continuous, inner.Bool("continuous_usage_stats"));
    rules.include_usage = usage.value_or(false);
    rules.continuous_usage = continuous.value_or(false);
  }
  LODE_ASSIGN(const auto progress, fields.Bool("return_progress"));
  rules.progress = progress.value_or(false);
  return rules;
}

Result<chat::Origin> ReadOrigin(const Fields& fields, chat::Origin origin) {
  LODE_ASSIGN(const auto salt, fields.String("cache_salt"));
  if (salt && salt->size() > 256) return fields.Bad("cache_salt", "is longer than 256 bytes");
  origin.salt = salt.value_or("");
  LODE_ASSIGN(const auto priority, fields.Integer("priority", -1000, 1000));
  // A lower number goes first, as elsewhere.
  origin.priority = static_cast<int32_t>(-priority.value_or(0));
  return origin;
}

}  // namespace lode::serve
