#include "serve/contexts/context_requests.h"

#include <utility>

#include "base/text.h"

namespace lode::serve {
namespace {

constexpr double kTtlSecondsMax = 1e9;
constexpr size_t kNameBytesMax = 100;

Result<std::string> ReadName(const Fields& fields, const char* key) {
  LODE_ASSIGN(const auto name, fields.String(key));
  if (name && name->size() > kNameBytesMax) {
    return fields.Bad(key, Format("is longer than %zu bytes", kNameBytesMax));
  }
  return name.value_or("");
}

Result<std::optional<chat::ContextPin>> ReadPin(const Fields& fields) {
  LODE_ASSIGN(const auto pin, fields.String("pin"));
  if (!pin) return std::optional<chat::ContextPin>();
  if (*pin == "none") return std::optional(chat::ContextPin::kNone);
  if (*pin == "memory") return std::optional(chat::ContextPin::kMemory);
  if (*pin == "disk") {
    return Error(Code::kUnsupported, fields.Path("pin") + ": disk is not offered here",
                 "save it: what is saved stays until somebody removes it");
  }
  return fields.Bad("pin", "may be none or memory");
}

}  // namespace

Result<ContextUse> ReadContextUse(const Fields& fields) {
  ContextUse use;
  LODE_ASSIGN(const auto id, fields.String("context"));
  use.id = id.value_or("");
  LODE_ASSIGN(const Json* object, fields.Object("lode"));
  if (object == nullptr) return use;
  const Fields inner(*object, fields.Path("lode"));
  LODE_ASSIGN(const auto inner_id, inner.String("context"));
  if (inner_id) use.id = *inner_id;
  LODE_ASSIGN(const auto how, inner.String("continue"));
  if (how && *how != "append" && *how != "rerender") {
    return inner.Bad("continue", "may be append or rerender");
  }
  use.append = how.value_or("append") == "append";
  LODE_ASSIGN(const auto fork, inner.Bool("fork_if_busy"));
  use.fork_if_busy = fork.value_or(false);
  LODE_ASSIGN(const auto explain, inner.Bool("explain"));
  use.explain = explain.value_or(false);
  return use;
}

Result<chat::ContextPlace> ReadContextPlace(const Fields& fields) {
  chat::ContextPlace place;
  LODE_ASSIGN(const Json* at, fields.Object("at"));
  if (at == nullptr) return place;
  const Fields inner(*at, fields.Path("at"));
  LODE_ASSIGN(place.token, inner.Integer("token", 1, int64_t{1} << 31));
  LODE_ASSIGN(place.message, inner.Integer("message", 0, int64_t{1} << 31));
  LODE_ASSIGN(place.mark, ReadName(inner, "mark"));
  const int given = place.token.has_value() + place.message.has_value() + !place.mark.empty();
  if (given != 1) return fields.Bad("at", "has one of token, message and mark");
  return place;
}

Result<chat::NewContext> ReadNewContext(const Fields& fields) {
  chat::NewContext context;
  LODE_ASSIGN(context.name, ReadName(fields, "name"));
  LODE_ASSIGN(const auto pin, ReadPin(fields));
  context.pin = pin.value_or(chat::ContextPin::kNone);
  LODE_ASSIGN(const auto publish, fields.Bool("publish"));
  context.publish = publish.value_or(false);
  LODE_ASSIGN(const auto ttl, fields.Number("ttl_s", 0.0, kTtlSecondsMax));
  context.ttl_seconds = ttl.value_or(0.0);
  return context;
}

Result<chat::ContextChange> ReadContextChange(const Fields& fields) {
  chat::ContextChange change;
  if (fields.Find("name") != nullptr) {
    LODE_ASSIGN(change.name, ReadName(fields, "name"));
  }
  if (fields.Find("mark") != nullptr) {
    LODE_ASSIGN(change.mark, ReadName(fields, "mark"));
  }
  LODE_ASSIGN(change.pin, ReadPin(fields));
  LODE_ASSIGN(change.ttl_seconds, fields.Number("ttl_s", 0.0, kTtlSecondsMax));
  return change;
}

Result<chat::ContextSaving> ReadContextSaving(const Fields& fields) {
  chat::ContextSaving saving;
  LODE_ASSIGN(saving.name, ReadName(fields, "name"));
  LODE_ASSIGN(const auto delta, fields.Bool("delta"));
  saving.delta = delta.value_or(true);
  LODE_ASSIGN(const auto zstd, fields.Integer("zstd", 0, 19));
  saving.zstd_level = static_cast<int>(zstd.value_or(0));
  return saving;
}

Result<chat::ContextRestoring> ReadContextRestoring(const Fields& fields) {
  chat::ContextRestoring restoring;
  LODE_ASSIGN(restoring.name, ReadName(fields, "name"));
  if (restoring.name.empty()) return fields.Bad("name", "is missing");
  LODE_ASSIGN(const auto mismatch, fields.String("on_mismatch"));
  if (mismatch && *mismatch != "fail" && *mismatch != "recompute") {
    return fields.Bad("on_mismatch", "may be fail or recompute");
  }
  restoring.recompute = mismatch.value_or("fail") == "recompute";
  LODE_ASSIGN(const auto verify, fields.Bool("verify"));
  restoring.verify = verify.value_or(false);
  return restoring;
}

}  // namespace lode::serve
