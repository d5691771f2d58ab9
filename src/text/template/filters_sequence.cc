// Filters on sequences: selection, order, groups, joining.
#include <algorithm>
#include <functional>
#include <iterator>

#include "base/text.h"
#include "text/template/bind.h"
#include "text/template/filters.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

// --- attributes by path: "address.city", 0, none ---

using Path = std::vector<Value>;

bool MakePath(Context* context, const Value& attribute, Path* path) {
  if (attribute.missing() || attribute.none()) return true;
  if (!attribute.string()) {
    path->push_back(attribute);
    return true;
  }
  for (const auto& part : Split(attribute.text(), '.')) {
    int64_t index = 0;
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    Value text;
    if (digits && ParseInt64(part, &index)) {
      path->push_back(Value::OfInt(index));
    } else if (context->Make(part, {}, false, &text)) {
      path->push_back(std::move(text));
    } else {
      return false;
    }
  }
  return true;
}

bool FollowPath(Context* context, const Value& item, const Path& path, const Value& fallback,
                Value* out) {
  Value at = item;
  for (const auto& part : path) {
    Value next;
    if (!GetItem(context, at, part, &next)) return false;
    if (next.undefined() && !fallback.missing() && !fallback.none()) next = fallback;
    at = std::move(next);
  }
  *out = std::move(at);
  return true;
}

// Strings are compared without case unless asked otherwise.
bool SortKey(Context* context, const Value& value, bool case_sensitive, Value* out) {
  if (case_sensitive || !value.string()) {
    *out = value;
    return true;
  }
  return ChangeCase(context, value.str(), Case::kLower, out);
}

bool PathKey(Context* context, const Value& item, const Path& path, bool case_sensitive,
             const Value& fallback, Value* out) {
  Value value;
  return FollowPath(context, item, path, fallback, &value) &&
         SortKey(context, value, case_sensitive, out);
}

// --- lazy results, as Python's generators: walked once, nothing happens before ---

class Deferred final : public Iterator {
 public:
  using Compute = std::function<bool(Context*, std::vector<Value>*)>;
  Deferred(Compute compute, const char* type_name)
      : compute_(std::move(compute)), type_name_(type_name) {}
  bool Next(Context* context, Value* item, bool* more) override {
    if (compute_) {
      const Compute compute = std::exchange(compute_, nullptr);
      if (!compute(context, &items_)) return false;
    }
    *more = at_ < items_.size();
    if (*more) *item = std::move(items_[at_++]);
    return true;
  }
  const char* type_name() const override { return type_name_; }

 private:
  Compute compute_;
  const char* type_name_;
  std::vector<Value> items_;
  size_t at_ = 0;
};

bool Defer(Context* context, int depth, Deferred::Compute compute, Value* result,
           const char* type_name = "generator") {
  return context->Adopt(Type::kIterator, new Deferred(std::move(compute), type_name),
                        sizeof(Deferred) + 128, depth + 1, result);
}

int ArgumentsDepth(const Arguments& arguments) {
  int depth = 0;
  for (const auto& value : arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, value.depth());
  return depth;
}

// map, select, reject, selectattr and rejectattr.
class Mapping final : public Iterator {
 public:
  enum class Kind { kMap, kSelect, kReject };
  Mapping(Kind kind, bool by_attribute, Value source, Arguments arguments)
      : kind_(kind), by_attribute_(by_attribute), source_(std::move(source)),
        arguments_(std::move(arguments)) {}

  bool Next(Context* context, Value* item, bool* more) override {
    *more = false;
    if (!context->CheckStack()) return false;
    if (!started_) {
      started_ = true;
      if (!Truth(source_)) return true;
      if (!Prepare(context) || !Iterate(context, source_, &walk_)) return false;
    }
    if (!walk_) return true;
    for (;;) {
      Value each;
      if (!context->Step() || !walk_->Next(context, &each, more)) return false;
      if (!*more) return true;
      if (kind_ == Kind::kMap) return Mapped(context, each, item);
      bool chosen = false;
      if (!Chosen(context, each, &chosen)) return false;
      if (chosen == (kind_ == Kind::kSelect)) {
        *item = std::move(each);
        return true;
      }
    }
  }

 private:
  bool Prepare(Context* context) {
    auto& given = arguments_.positional;
    if (kind_ == Kind::kMap && given.empty() && !arguments_.named.empty()) {
      Value attribute;
      for (const auto& [name, value] : arguments_.named) {
        if (name == "attribute") {
          attribute = value;
        } else if (name == "default") {
          fallback_ = value;
        } else {
          return context->Fail("Unexpected keyword argument " + Quote(name));
        }
      }
      if (attribute.missing()) return context->Fail("map requires a filter argument");
      return MakePath(context, attribute, &path_);
    }
    if (by_attribute_) {
      if (given.empty()) return context->Fail("Missing parameter for attribute name");
      if (!MakePath(context, given[0], &path_)) return false;
      given.erase(given.begin());
    }
    if (given.empty()) {
      return kind_ != Kind::kMap || context->Fail("map requires a filter argument");
    }
    const Value name = given[0];
    given.erase(given.begin());
    if (!name.string()) return context->Fail("the name of a filter or test must be a str");
    if (kind_ == Kind::kMap) {
      filter_ = FindFilter(name.text());
      if (filter_ == nullptr) return context->Fail("No filter named " + Quote(name.text()) + ".");
    } else {
      test_ = FindTest(name.text());
      if (test_ == nullptr) return context->Fail("No test named " + Quote(name.text()) + ".");
    }
    return true;
  }

  bool Mapped(Context* context, const Value& each, Value* item) {
    if (filter_ != nullptr) return filter_->apply(context, each, arguments_, item);
    return FollowPath(context, each, path_, fallback_, item);
  }

  bool Chosen(Context* context, const Value& each, bool* chosen) {
    Value value;
    if (!FollowPath(context, each, path_, Value(), &value)) return false;
    if (test_ != nullptr) return test_->apply(context, value, arguments_, chosen);
    *chosen = Truth(value);
    return true;
  }

  Kind kind_;
  bool by_attribute_;
  Value source_;
  Arguments arguments_;
  bool started_ = false;
  Ref<Iterator> walk_;
  Path path_;
  Value fallback_;
  const FilterDef* filter_ = nullptr;
  const TestDef* test_ = nullptr;
};

template <Mapping::Kind kKind, bool kByAttribute>
bool MappingFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  const int depth = std::max(value.depth(), ArgumentsDepth(arguments));
  return context->Adopt(Type::kIterator, new Mapping(kKind, kByAttribute, value, arguments),
                        sizeof(Mapping) + arguments.positional.size() * sizeof(Value), depth + 1,
                        result);
}

bool UniqueFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  Value bound[2];
  if (!Bind(context, "unique", arguments, {"case_sensitive", "attribute"}, 0, bound)) return false;
  const bool case_sensitive = Truth(bound[0]);
  const Value attribute = bound[1];
  return Defer(
      context, value.depth(),
      [value, attribute, case_sensitive](Context* ctx, std::vector<Value>* out) {
        Path path;
        std::vector<Value> items;
        if (!MakePath(ctx, attribute, &path) || !Collect(ctx, value, &items)) return false;
        Dict seen;
        for (auto& item : items) {
          Value key;
          size_t hash = 0;
          if (!PathKey(ctx, item, path, case_sensitive, Value(), &key) ||
              !Hash(ctx, key, &hash)) {
            return false;
          }
          if (seen.Find(key, hash) >= 0) continue;
          seen.Insert(key, hash, Value());
          out->push_back(std::move(item));
        }
        return true;
      },
      result);
}

bool BatchFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Value bound[2];
  int64_t size = 0;
  if (!Bind(context, "batch", arguments, {"linecount", "fill_with"}, 1, bound) ||
      !BindInt(context, bound[0], 0, false, &size)) {
    return false;
  }
  const Value fill = bound[1];
  return Defer(
      context, std::max(value.depth(), fill.depth()),
      [value, fill, size](Context* ctx, std::vector<Value>* out) {
        std::vector<Value> items;
        if (!Collect(ctx, value, &items)) return false;
        std::vector<Value> row;
        const auto flush = [&] {
          Value list;
          if (!ctx->MakeList(std::move(row), &list)) return false;
          out->push_back(std::move(list));
          row.clear();
          return true;
        };
        for (size_t i = 0; i < items.size(); ++i) {
          if (static_cast<int64_t>(row.size()) == size && !flush()) return false;
          row.push_back(std::move(items[i]));
        }
        if (row.empty()) return true;
        if (!fill.missing() && !fill.none()) {
          const int64_t more = std::max<int64_t>(0, size - static_cast<int64_t>(row.size()));
          if (more > (1 << 24) || !ctx->HasMemory(more * sizeof(Value))) {
            return ctx->Fail("batch: the rows are too long", Failure::kLimit);
          }
          row.insert(row.end(), static_cast<size_t>(more), fill);
        }
        return flush();
      },
      result);
}

bool SliceFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Value bound[2];
  int64_t slices = 0;
  if (!Bind(context, "slice", arguments, {"slices", "fill_with"}, 1, bound) ||
      !BindInt(context, bound[0], 0, false, &slices)) {
    return false;
  }
  const Value fill = bound[1];
  return Defer(
      context, std::max(value.depth(), fill.depth()),
      [value, fill, slices](Context* ctx, std::vector<Value>* out) {
        std::vector<Value> items;
        if (!Collect(ctx, value, &items)) return false;
        if (slices == 0) return ctx->Fail("integer division or modulo by zero");
        if (slices > (1 << 20)) return ctx->Fail("slice: too many slices", Failure::kLimit);
        const auto count = static_cast<int64_t>(items.size());
        const int64_t extra = count % slices;
        int64_t at = 0;
        for (int64_t i = 0; i < slices; ++i) {
          const int64_t size = count / slices + (i < extra);
          std::vector<Value> row(items.begin() + at, items.begin() + at + size);
          at += size;
          if (!fill.missing() && !fill.none() && i >= extra) row.push_back(fill);
          Value list;
          if (!ctx->MakeList(std::move(row), &list)) return false;
          out->push_back(std::move(list));
        }
        return true;
      },
      result);
}

bool ItemsFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  if (!Bind(context, "items", arguments, {}, 0, nullptr)) return false;
  return Defer(
      context, value.depth(),
      [value](Context* ctx, std::vector<Value>* out) {
        if (value.undefined()) return true;
        if (!value.is(Type::kDict)) return ctx->Fail("Can only get item pairs from a mapping.");
        for (const auto& [key, item] : value.dict().items) {
          out->emplace_back();
          if (!ctx->MakeList({key, item}, &out->back(), Type::kTuple)) return false;
        }
        return true;
      },
      result);
}

bool LengthFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  int64_t length = 0;
  if (!Bind(context, "length", arguments, {}, 0, nullptr) || !Length(context, value, &length)) {
    return false;
  }
  *result = Value::OfInt(length);
  return true;
}

bool ListFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  std::vector<Value> items;
  return Bind(context, "list", arguments, {}, 0, nullptr) && Collect(context, value, &items) &&
         context->MakeList(std::move(items), result);
}

bool FirstFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Ref<Iterator> walk;
  bool more = false;
  if (!Bind(context, "first", arguments, {}, 0, nullptr) || !Iterate(context, value, &walk) ||
      !walk->Next(context, result, &more)) {
    return false;
  }
  if (!more) *result = context->Undefined("No first item, sequence was empty.");
  return true;
}

// Python's reversed(): what can be walked from the end.
bool Reversible(const Value& value) {
  switch (value.type()) {
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kView:
    case Type::kRange:
    case Type::kUndefined:
      return true;
    default:
      return false;
  }
}

bool LastFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  if (!Bind(context, "last", arguments, {}, 0, nullptr)) return false;
  if (!Reversible(value)) {
    return context->Fail(std::string("'") + TypeName(value) + "' object is not reversible");
  }
  int64_t length = 0;
  if (!Length(context, value, &length)) return false;
  if (length == 0) {
    *result = context->Undefined("No last item, sequence was empty.");
    return true;
  }
  if (!value.is(Type::kDict) && !value.is(Type::kView)) {
    if (value.string() && value.str().safe) {
      Value last;
      return CharAt(context, value.str(), length - 1, &last) && ToStr(context, last, result);
    }
    return GetItem(context, value, Value::OfInt(-1), result);
  }
  std::vector<Value> items;
  if (!Collect(context, value, &items)) return false;
  *result = items.back();
  return true;
}

bool ReverseFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  if (!Bind(context, "reverse", arguments, {}, 0, nullptr)) return false;
  if (value.string()) {
    return GetSlice(context, value, Value::None(), Value::None(), Value::OfInt(-1), result);
  }
  std::vector<Value> items;
  if (!Collect(context, value, &items)) return false;
  std::reverse(items.begin(), items.end());
  if (!Reversible(value)) return context->MakeList(std::move(items), result);
  if (!context->HasMemory(items.size() * sizeof(Value))) return false;
  const size_t cost = items.size() * sizeof(Value) + 64;
  return context->Adopt(Type::kIterator,
                        IterateItems(std::move(items), "list_reverseiterator").get(), cost,
                        value.depth() + 1, result);
}

bool JoinFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  Value bound[2];
  Path path;
  Value separator;
  std::vector<Value> items;
  if (!Bind(context, "join", arguments, {"d", "attribute"}, 0, bound) ||
      !MakePath(context, bound[1], &path)) {
    return false;
  }
  if (bound[0].missing()) bound[0] = context->Text("");
  if (!ToStr(context, bound[0], &separator) || !Collect(context, value, &items)) return false;
  Builder builder(context);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) builder.Append(separator.str());
    Value item;
    if (!FollowPath(context, items[i], path, Value(), &item) ||
        !ToText(context, item, &builder)) {
      return false;
    }
  }
  return builder.Finish(result);
}

bool SortFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  Value bound[3];
  if (!Bind(context, "sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0, bound)) {
    return false;
  }
  std::vector<Path> paths;
  if (bound[2].string()) {
    for (const auto& part : Split(bound[2].text(), ',')) {
      Value text;
      paths.emplace_back();
      if (!context->Make(part, {}, false, &text) || !MakePath(context, text, &paths.back())) {
        return false;
      }
    }
  } else {
    paths.emplace_back();
    if (!MakePath(context, bound[2], &paths.back())) return false;
  }
  std::vector<Value> items;
  if (!Collect(context, value, &items)) return false;
  std::vector<Value> keys;
  for (const auto& item : items) {
    std::vector<Value> key(paths.size());
    for (size_t i = 0; i < paths.size(); ++i) {
      if (!PathKey(context, item, paths[i], Truth(bound[1]), Value(), &key[i])) return false;
    }
    keys.emplace_back();
    if (!context->MakeList(std::move(key), &keys.back())) return false;
  }
  return StableSort(context, &items, keys, Truth(bound[0])) &&
         context->MakeList(std::move(items), result);
}

bool DictSortFilter(Context* context, const Value& value, const Arguments& arguments,
                    Value* result) {
  Value bound[3];
  if (!Bind(context, "dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0, bound)) {
    return false;
  }
  const std::string by =
      bound[1].missing() ? "key" : bound[1].string() ? std::string(bound[1].text()) : "";
  if (by != "key" && by != "value") {
    return context->Fail("You can only sort by either \"key\" or \"value\"");
  }
  if (value.undefined()) return FailUndefined(context, value);
  if (!value.is(Type::kDict)) {
    return context->Fail(std::string("'") + TypeName(value) + "' object has no attribute 'items'");
  }
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict().items) {
    items.emplace_back();
    keys.emplace_back();
    if (!context->MakeList({key, item}, &items.back(), Type::kTuple) ||
        !SortKey(context, by == "key" ? key : item, Truth(bound[0]), &keys.back())) {
      return false;
    }
  }
  return StableSort(context, &items, keys, Truth(bound[2])) &&
         context->MakeList(std::move(items), result);
}

bool GroupByFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  Value bound[3];
  Path path;
  if (!Bind(context, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1, bound) ||
      !MakePath(context, bound[0], &path)) {
    return false;
  }
  const bool case_sensitive = Truth(bound[2]);
  std::vector<Value> items;
  if (!Collect(context, value, &items)) return false;
  std::vector<Value> keys(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    if (!PathKey(context, items[i], path, case_sensitive, bound[1], &keys[i])) return false;
  }
  if (!StableSort(context, &items, keys, false)) return false;
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    Value key;
    if (!PathKey(context, items[begin], path, case_sensitive, bound[1], &key)) return false;
    size_t end = begin + 1;
    for (; end < items.size(); ++end) {
      Value other;
      bool same = false;
      if (!PathKey(context, items[end], path, case_sensitive, bound[1], &other) ||
          !Equals(context, key, other, &same)) {
        return false;
      }
      if (!same) break;
    }
    Value grouper = key;
    if (!case_sensitive && !FollowPath(context, items[begin], path, bound[1], &grouper)) {
      return false;
    }
    Value list;
    groups.emplace_back();
    if (!context->MakeList({items.begin() + begin, items.begin() + end}, &list) ||
        !context->MakeList({grouper, list}, &groups.back(), Type::kTuple)) {
      return false;
    }
    static_cast<List*>(groups.back().object())->group = true;
    begin = end;
  }
  return context->MakeList(std::move(groups), result);
}

template <bool kMax>
bool ExtremeFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  Value bound[2];
  Path path;
  std::vector<Value> items;
  if (!Bind(context, kMax ? "max" : "min", arguments, {"case_sensitive", "attribute"}, 0, bound) ||
      !MakePath(context, bound[1], &path) || !Collect(context, value, &items)) {
    return false;
  }
  if (items.empty()) {
    *result = context->Undefined("No aggregated item, sequence was empty.");
    return true;
  }
  Value best;
  for (size_t i = 0; i < items.size(); ++i) {
    Value key;
    if (!PathKey(context, items[i], path, Truth(bound[0]), Value(), &key)) return false;
    bool better = i == 0;
    if (i > 0 && !CompareValues(context, kMax ? Compare::kGt : Compare::kLt, key, best, &better)) {
      return false;
    }
    if (better) {
      best = std::move(key);
      *result = items[i];
    }
  }
  return true;
}

bool SumFilter(Context* context, const Value& value, const Arguments& arguments, Value* result) {
  Value bound[2];
  Path path;
  std::vector<Value> items;
  if (!Bind(context, "sum", arguments, {"attribute", "start"}, 0, bound) ||
      !MakePath(context, bound[0], &path) || !Collect(context, value, &items)) {
    return false;
  }
  Value total = bound[1].missing() ? Value::OfInt(0) : bound[1];
  if (total.string()) {
    return context->Fail("sum() can't sum strings [use ''.join(seq) instead]");
  }
  for (const auto& item : items) {
    Value term;
    Value next;
    if (!FollowPath(context, item, path, Value(), &term) ||
        !Calculate(context, Arithmetic::kAdd, total, term, &next)) {
      return false;
    }
    total = std::move(next);
  }
  *result = std::move(total);
  return true;
}

constexpr FilterDef kFilters[] = {
    {"batch", BatchFilter},
    {"count", LengthFilter},
    {"dictsort", DictSortFilter},
    {"first", FirstFilter},
    {"groupby", GroupByFilter},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", LastFilter},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"map", MappingFilter<Mapping::Kind::kMap, false>},
    {"max", ExtremeFilter<true>},
    {"min", ExtremeFilter<false>},
    {"reject", MappingFilter<Mapping::Kind::kReject, false>},
    {"rejectattr", MappingFilter<Mapping::Kind::kReject, true>},
    {"reverse", ReverseFilter},
    {"select", MappingFilter<Mapping::Kind::kSelect, false>},
    {"selectattr", MappingFilter<Mapping::Kind::kSelect, true>},
    {"slice", SliceFilter},
    {"sort", SortFilter},
    {"sum", SumFilter},
    {"unique", UniqueFilter},
};

}  // namespace

FilterTable SequenceFilters() { return {std::begin(kFilters), std::end(kFilters)}; }

const FilterDef* FindFilter(std::string_view name) {
  for (const FilterTable table : {TextFilters(), SequenceFilters(), ValueFilters()}) {
    for (const FilterDef* filter = table.begin; filter != table.end; ++filter) {
      if (filter->name == name) return filter;
    }
  }
  return nullptr;
}

}  // namespace lode::text::jinja
