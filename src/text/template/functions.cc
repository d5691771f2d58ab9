#include "text/template/functions.h"

#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "text/template/bind.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

// Jinja's sandbox has the same bound.
constexpr int64_t kRangeMax = 100000;

bool MakeRange(Context* context, Arguments* arguments, Value* result) {
  Value bound[3];
  if (!Bind(context, "range", *arguments, {"", "", ""}, 1, bound)) return false;
  Int values[3] = {0, 0, 1};
  const bool only_stop = bound[1].missing();
  for (int i = 0; i < 3; ++i) {
    const Value& value = only_stop && i < 2 ? bound[i == 1 ? 0 : 1] : bound[i];
    if (value.missing()) continue;
    int64_t number = 0;
    if (!BindInt(context, value, 0, false, &number)) return false;
    values[i] = number;
  }
  const Int step = values[2];
  if (step == 0) return context->Fail("range() arg 3 must not be zero");
  const Int distance = step > 0 ? values[1] - values[0] : values[0] - values[1];
  const Int stride = step > 0 ? step : -step;
  const Int count = distance > 0 ? (distance - 1) / stride + 1 : 0;
  if (count > kRangeMax) {
    return context->Fail(
        Format("Range too big. The sandbox blocks ranges larger than MAX_RANGE (%lld).",
               static_cast<long long>(kRangeMax)),
        Failure::kLimit);
  }
  auto* range = new Range;
  range->start = values[0];
  range->stop = values[1];
  range->step = step;
  range->count = static_cast<int64_t>(count);
  return context->Adopt(Type::kRange, range, sizeof(Range), 0, result);
}

// The pairs of dict(mapping_or_pairs, **named).
bool Pairs(Context* context, const char* function, const Arguments& arguments,
           std::vector<std::pair<Value, Value>>* pairs) {
  if (arguments.positional.size() > 1) {
    return context->Fail(std::string(function) + "() takes at most 1 argument");
  }
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Type::kDict)) {
      *pairs = source.dict().items;
    } else {
      std::vector<Value> items;
      if (!Collect(context, source, &items)) return false;
      for (const auto& item : items) {
        std::vector<Value> pair;
        if (!Collect(context, item, &pair)) return false;
        if (pair.size() != 2) {
          return context->Fail("dictionary update sequence element has length " +
                               std::to_string(pair.size()) + "; 2 is required");
        }
        pairs->emplace_back(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) {
    pairs->emplace_back(context->Text(name), value);
  }
  return context->Step(pairs->size());
}

bool MakeDictValue(Context* context, Arguments* arguments, Value* result) {
  std::vector<std::pair<Value, Value>> pairs;
  if (!Pairs(context, "dict", *arguments, &pairs)) return false;
  Ref<Dict> dict(new Dict);
  for (const auto& [key, value] : pairs) {
    size_t hash = 0;
    if (!Hash(context, key, &hash)) return false;
    dict->Insert(key, hash, value);
  }
  return context->MakeDict(dict, result);
}

bool MakeNamespace(Context* context, Arguments* arguments, Value* result) {
  std::vector<std::pair<Value, Value>> pairs;
  if (!Pairs(context, "namespace", *arguments, &pairs)) return false;
  Ref<Namespace> space(new Namespace);
  for (const auto& [key, value] : pairs) {
    if (!key.string()) continue;  // no attribute can reach it
    if (StartsWith(key.text(), "_")) {
      return context->Fail("a namespace cannot hold the private name " + Quote(key.text()));
    }
    space->Set(key.text(), value);
  }
  context->KeepNamespace(space.get());
  return context->Adopt(Type::kObject, space.get(), sizeof(Namespace) + pairs.size() * 96, 0,
                        result);
}

bool RaiseException(Context* context, Arguments* arguments, Value*) {
  Value message;
  if (!Bind(context, "raise_exception", *arguments, {"message"}, 1, &message)) return false;
  Value text;
  if (!ToStr(context, message, &text)) return false;
  return context->Fail(std::string(text.text()), Failure::kRaised);
}

bool StrftimeNow(Context* context, Arguments* arguments, Value* result) {
  Value format;
  if (!Bind(context, "strftime_now", *arguments, {"format"}, 1, &format)) return false;
  if (!format.string()) return context->Fail("strftime() argument 1 must be str");
  if (format.text().size() > 4096) return context->Fail("strftime_now: the format is too long");
  // C's strftime ends at a zero byte; Python refuses it.
  if (format.text().find('\0') != std::string_view::npos) {
    return context->Fail("embedded null character");
  }
  const std::string text = FormatCivilTime(context->now(), std::string(format.text()));
  return context->Make(text, {}, false, result);
}

// cycler("odd", "even"): .next(), .current, .reset().
class Cycler final : public Opaque {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  const char* type_name() const override { return "Cycler"; }
  bool Attribute(Context* context, std::string_view name, Value* result, bool* found) override;
  const Value& current() const { return items_[at_]; }
  void Advance() { at_ = (at_ + 1) % items_.size(); }
  void Reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  size_t at_ = 0;
};

class CyclerMethod final : public Opaque {
 public:
  CyclerMethod(Cycler* cycler, bool reset) : cycler_(cycler), reset_(reset) {}
  const char* type_name() const override { return "method"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    if (!Bind(context, "next", *arguments, {}, 0, nullptr)) return false;
    if (reset_) {
      cycler_->Reset();
      *result = Value::None();
    } else {
      *result = cycler_->current();
      cycler_->Advance();
    }
    return true;
  }

 private:
  Ref<Cycler> cycler_;
  bool reset_;
};

bool Cycler::Attribute(Context* context, std::string_view name, Value* result, bool* found) {
  *found = true;
  if (name == "current") {
    *result = current();
    return true;
  }
  if (name == "next" || name == "reset") {
    return context->Adopt(Type::kObject, new CyclerMethod(this, name == "reset"),
                          sizeof(CyclerMethod), depth + 1, result);
  }
  *found = false;
  return true;
}

bool MakeCycler(Context* context, Arguments* arguments, Value* result) {
  if (!arguments->named.empty()) return context->Fail("cycler() takes no keyword arguments");
  if (arguments->positional.empty()) return context->Fail("at least one item has to be provided");
  int depth = 0;
  for (const auto& item : arguments->positional) depth = std::max(depth, item.depth());
  const size_t cost = arguments->positional.size() * sizeof(Value) + sizeof(Cycler);
  return context->Adopt(Type::kObject, new Cycler(std::move(arguments->positional)), cost,
                        depth + 1, result);
}

// joiner(", "): empty the first time, the separator from then on.
class Joiner final : public Opaque {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  const char* type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    if (!Bind(context, "joiner", *arguments, {}, 0, nullptr)) return false;
    *result = used_ ? separator_ : context->Text("");
    used_ = true;
    return true;
  }

 private:
  Value separator_;
  bool used_ = false;
};

bool MakeJoiner(Context* context, Arguments* arguments, Value* result) {
  Value separator;
  if (!Bind(context, "joiner", *arguments, {"sep"}, 0, &separator)) return false;
  if (separator.missing()) separator = context->Text(", ");
  const int depth = separator.depth();
  return context->Adopt(Type::kObject, new Joiner(std::move(separator)), sizeof(Joiner), depth + 1,
                        result);
}

bool Lipsum(Context* context, Arguments*, Value*) {
  return context->Fail("lipsum() is not supported");
}

struct GlobalDef {
  const char* name;
  Function::Body body;
};
constexpr GlobalDef kGlobals[] = {
    {"range", MakeRange},
    {"dict", MakeDictValue},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"strftime_now", StrftimeNow},
    {"cycler", MakeCycler},
    {"joiner", MakeJoiner},
    {"lipsum", Lipsum},
};

const GlobalDef* Find(std::string_view name) {
  const auto* found = std::find_if(std::begin(kGlobals), std::end(kGlobals),
                                   [&](const GlobalDef& def) { return def.name == name; });
  return found == std::end(kGlobals) ? nullptr : found;
}

}  // namespace

bool IsGlobal(std::string_view name) { return Find(name) != nullptr; }

Value FindGlobal(std::string_view name) {
  const GlobalDef* def = Find(name);
  if (def == nullptr) return Value();
  return Value::Of(Type::kObject, new Function(def->name, def->body));
}

}  // namespace lode::text::jinja
