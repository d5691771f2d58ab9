#include "text/template/bind.h"

#include <algorithm>

#include "base/text.h"
#include "text/template/ops.h"

namespace lode::text::jinja {

bool Bind(Context* context, const char* function, const Arguments& arguments,
          std::initializer_list<const char*> names, size_t required, Value* values) {
  if (arguments.positional.size() > names.size()) {
    return context->Fail(Format("%s() takes at most %zu argument%s (%zu given)", function,
                                names.size(), names.size() == 1 ? "" : "s",
                                arguments.positional.size()));
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), values);
  for (const auto& [name, value] : arguments.named) {
    size_t at = 0;
    for (const char* candidate : names) {
      if (name == candidate) break;
      ++at;
    }
    if (at == names.size()) {
      return context->Fail(std::string(function) + "() got an unexpected keyword argument " +
                           Quote(name));
    }
    if (!values[at].missing()) {
      return context->Fail(std::string(function) + "() got multiple values for argument " +
                           Quote(name));
    }
    values[at] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values[i].missing()) {
      return context->Fail(Format("%s() is missing an argument (%zu needed)", function, required));
    }
  }
  return true;
}

bool BindInt(Context* context, const Value& value, int64_t fallback, bool none_too,
             int64_t* out) {
  *out = fallback;
  if (value.missing() || (none_too && value.none())) return true;
  if (value.undefined()) return FailUndefined(context, value);
  if (!value.is(Type::kInt) && !value.is(Type::kBool)) {
    return context->Fail(std::string("'") + TypeName(value) +
                         "' object cannot be interpreted as an integer");
  }
  constexpr Int kFar = Int{1} << 62;
  if (value.integer() > kFar || value.integer() < -kFar) {
    return context->Fail("Python int too large to convert to C ssize_t");
  }
  *out = static_cast<int64_t>(value.integer());
  return true;
}

}  // namespace lode::text::jinja
