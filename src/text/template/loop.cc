#include "text/template/loop.h"

#include <utility>

#include "text/template/bind.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

class LoopMethod final : public Opaque {
 public:
  LoopMethod(LoopObject* loop, bool changed) : loop_(loop), changed_(changed) {}
  const char* type_name() const override { return "method"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    return changed_ ? loop_->Changed(context, *arguments, result)
                    : loop_->Cycle(context, *arguments, result);
  }

 private:
  Ref<LoopObject> loop_;
  bool changed_;
};

}  // namespace

bool LoopObject::Advance(Context* context, Value* item, bool* more) {
  if (peeked_) {
    *more = has_after_;
    *item = std::move(after_);
    after_ = Value();
    if (has_after_) peeked_ = false;
  } else if (!walk_->Next(context, item, more)) {
    return false;
  }
  if (!*more) return true;
  ++index0_;
  before_ = std::move(current_);
  current_ = *item;
  return true;
}

bool LoopObject::Peek(Context* context) {
  if (peeked_) return true;
  if (!walk_->Next(context, &after_, &has_after_)) return false;
  peeked_ = true;
  return true;
}

bool LoopObject::Length(Context* context, int64_t* length) {
  if (length_ < 0) {
    const bool sized = !iterable_.missing() && !iterable_.is(Type::kIterator);
    if (sized) {
      if (!jinja::Length(context, iterable_, &length_)) return false;
    } else {
      std::vector<Value> rest;
      for (bool more = true; more;) {
        Value item;
        if (!context->Step() || !walk_->Next(context, &item, &more)) return false;
        if (more) rest.push_back(std::move(item));
      }
      length_ = static_cast<int64_t>(rest.size()) + index0_ + 1 + (peeked_ && has_after_);
      walk_ = IterateItems(std::move(rest));
    }
  }
  *length = length_;
  return true;
}

bool LoopObject::Attribute(Context* context, std::string_view name, Value* result,
                           bool* found) {
  *found = true;
  if (name == "index0") {
    *result = Value::OfInt(index0_);
  } else if (name == "index") {
    *result = Value::OfInt(index0_ + 1);
  } else if (name == "first") {
    *result = Value::Bool(index0_ == 0);
  } else if (name == "last") {
    if (!Peek(context)) return false;
    *result = Value::Bool(!has_after_);
  } else if (name == "previtem") {
    *result = index0_ == 0 || before_.missing() ? context->Undefined("there is no previous item")
                                                : before_;
  } else if (name == "nextitem") {
    if (!Peek(context)) return false;
    *result = has_after_ ? after_ : context->Undefined("there is no next item");
  } else if (name == "length" || name == "revindex" || name == "revindex0") {
    int64_t length = 0;
    if (!Length(context, &length)) return false;
    if (name == "revindex") length -= index0_;
    if (name == "revindex0") length -= index0_ + 1;
    *result = Value::OfInt(length);
  } else if (name == "depth0" || name == "depth") {
    *result = Value::OfInt(depth0_ + (name == "depth"));
  } else if (name == "cycle" || name == "changed") {
    return context->Adopt(Type::kObject, new LoopMethod(this, name == "changed"),
                          sizeof(LoopMethod), depth + 1, result);
  } else {
    *found = false;
  }
  return true;
}

bool LoopObject::Call(Context* context, Arguments* arguments, Value* result) {
  Value iterable;
  if (!Bind(context, "loop", *arguments, {"iterable"}, 1, &iterable)) return false;
  if (!recurse_) {
    return context->Fail("The loop must have the 'recursive' marker to be called recursively.");
  }
  if (!context->EnterCall()) return false;
  const bool good = recurse_(iterable, depth0_ + 1, result);
  context->LeaveCall();
  return good;
}

bool LoopObject::Cycle(Context* context, const Arguments& arguments, Value* result) {
  const auto& items = arguments.positional;
  if (!arguments.named.empty()) return context->Fail("cycle() takes no keyword arguments");
  if (items.empty()) return context->Fail("no items for cycling given");
  const auto count = static_cast<int64_t>(items.size());
  *result = items[((index0_ % count) + count) % count];
  return true;
}

bool LoopObject::Changed(Context* context, const Arguments& arguments, Value* result) {
  Value now;
  bool same = false;
  if (!arguments.named.empty()) return context->Fail("changed() takes no keyword arguments");
  if (!context->MakeList(arguments.positional, &now, Type::kTuple)) return false;
  if (!last_changed_.missing() && !Equals(context, last_changed_, now, &same)) return false;
  *result = Value::Bool(!same);
  if (!same) last_changed_ = std::move(now);
  if (!kept_) {  // the remembered value may hold this loop
    kept_ = true;
    context->KeepScope(this, [](Object* object) {
      static_cast<LoopObject*>(object)->last_changed_ = Value();
    });
  }
  return true;
}

}  // namespace lode::text::jinja
