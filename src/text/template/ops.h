// The operators of the template language, with Python's meaning: truth, equality, order, arithmetic,
// containment, text, iteration, subscripts. Internal.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// --- numbers as text ---
std::string IntText(Int value);
// Python's repr of a float: the shortest digits that read back as the same number.
std::string FloatText(double value);

bool Truth(const Value& value);

// --- text ---
bool ToText(Context* context, const Value& value, Builder* out);   // str(value)
bool ToRepr(Context* context, const Value& value, Builder* out);   // repr(value)
bool ToStr(Context* context, const Value& value, Value* out);      // as a plain string
// jinja's soft_str: a string stays what it is (safe or not), all else becomes text.
bool SoftStr(Context* context, const Value& value, Value* out);
void ReprText(const Str& text, Builder* out);
// HTML-escapes into a safe string; safe strings stay.
bool Escape(Context* context, const Value& value, Value* out);

// --- comparison ---
enum class Compare { kEq, kNe, kLt, kLe, kGt, kGe };
bool Equals(Context* context, const Value& a, const Value& b, bool* result);
bool CompareValues(Context* context, Compare op, const Value& a, const Value& b, bool* result);
bool Contains(Context* context, const Value& container, const Value& item, bool* result);
bool Hash(Context* context, const Value& key, size_t* hash);  // fails for unhashable types
bool SameKey(const Value& a, const Value& b);                 // equality of hashable values
// Sorts stably by `keys` (parallel to `items`); fails when two keys have no order.
bool StableSort(Context* context, std::vector<Value>* items, const std::vector<Value>& keys,
                bool reverse);

// --- arithmetic ---
enum class Arithmetic { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
bool Calculate(Context* context, Arithmetic op, const Value& a, const Value& b, Value* result);
bool Negate(Context* context, const Value& a, bool minus, Value* result);

// --- iteration ---
// Python's iter(value); fails for what cannot be walked.
bool Iterate(Context* context, const Value& value, Ref<Iterator>* out);
bool Collect(Context* context, const Value& value, std::vector<Value>* out);
// len(value).
bool Length(Context* context, const Value& value, int64_t* out);
// A walk over items already at hand.
Ref<Iterator> IterateItems(std::vector<Value> items, const char* type_name = "list_iterator");

// --- attributes and subscripts: value.name, value[key], value[a:b:c] ---
bool GetAttribute(Context* context, const Value& value, std::string_view name, Value* out);
bool GetItem(Context* context, const Value& value, const Value& key, Value* out);
bool GetSlice(Context* context, const Value& value, const Value& start, const Value& stop,
              const Value& step, Value* out);
bool CallValue(Context* context, const Value& callee, Arguments* arguments, Value* out);

// The character `index` of a string, as a string.
bool CharAt(Context* context, const Str& text, int64_t index, Value* out);
// Fails with the sentence of an undefined value that is used.
bool FailUndefined(Context* context, const Value& value);

}  // namespace lode::text::jinja
