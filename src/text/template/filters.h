// The filters and tests of Jinja, by name. Internal.
#pragma once

#include <string_view>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

struct FilterDef {
  const char* name;
  bool (*apply)(Context* context, const Value& value, const Arguments& arguments, Value* result);
};

struct TestDef {
  const char* name;
  bool (*apply)(Context* context, const Value& value, const Arguments& arguments, bool* result);
};

// Null when there is none.
const FilterDef* FindFilter(std::string_view name);
const TestDef* FindTest(std::string_view name);

// The tables of the single files, joined by FindFilter.
struct FilterTable {
  const FilterDef* begin;
  const FilterDef* end;
};
FilterTable TextFilters();
FilterTable SequenceFilters();
FilterTable ValueFilters();

}  // namespace lode::text::jinja
