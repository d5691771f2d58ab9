// The `loop` variable of a for. Internal.
#pragma once

#include <functional>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

class LoopObject final : public Opaque {
 public:
  // Renders the loop's body for another iterable, one level deeper.
  using Recurse = std::function<bool(const Value& iterable, int depth0, Value* text)>;

  // `iterable` is missing when its length can only be found by walking.
  LoopObject(Value iterable, Ref<Iterator> walk, Recurse recurse, int depth0)
      : iterable_(std::move(iterable)), walk_(std::move(walk)), recurse_(std::move(recurse)),
        depth0_(depth0) {}

  const char* type_name() const override { return "LoopContext"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override;
  bool Attribute(Context* context, std::string_view name, Value* result, bool* found) override;
  bool Length(Context* context, int64_t* length) override;

  bool Advance(Context* context, Value* item, bool* more);
  bool Cycle(Context* context, const Arguments& arguments, Value* result);
  bool Changed(Context* context, const Arguments& arguments, Value* result);

 private:
  bool Peek(Context* context);  // fills after_ and has_after_

  Value iterable_;
  Ref<Iterator> walk_;
  Recurse recurse_;
  int depth0_;
  int64_t index0_ = -1;
  int64_t length_ = -1;
  Value current_;
  Value before_;
  Value after_;
  bool peeked_ = false;
  bool has_after_ = false;
  Value last_changed_;  // a tuple, once asked
  bool kept_ = false;
};

}  // namespace lode::text::jinja
