#include "text/template/interpreter.h"

#include <algorithm>

#include "base/text.h"
#include "text/template/bind.h"
#include "text/template/filters.h"
#include "text/template/functions.h"
#include "text/template/loop.h"
#include "text/template/methods.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

constexpr const char* kTooLong = "the template writes more than its limit";

}  // namespace

// A macro, or the body of a call block.
class MacroObject final : public Opaque {
 public:
  MacroObject(Interpreter* interpreter, const Stmt& stmt, Scope* closure, std::string name)
      : stmt(stmt), closure(closure), name(std::move(name)), interpreter_(interpreter) {}
  const char* type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    if (!context->EnterCall()) return false;
    const bool good = interpreter_->CallMacro(*this, arguments, result);
    context->LeaveCall();
    return good;
  }
  bool Attribute(Context* context, std::string_view attribute, Value* result,
                 bool* found) override {
    *found = true;
    if (attribute == "name") {
      *result = context->Text(name);
    } else if (attribute == "catch_kwargs") {
      *result = Value::Bool(stmt.takes_kwargs);
    } else if (attribute == "catch_varargs") {
      *result = Value::Bool(stmt.takes_varargs);
    } else if (attribute == "caller") {
      *result = Value::Bool(stmt.takes_caller);
    } else {
      *found = false;
    }
    return true;
  }
  std::string Describe() const override { return "<Macro '" + name + "'>"; }

  const Stmt& stmt;
  Ref<Scope> closure;
  std::string name;

 private:
  Interpreter* interpreter_;
};

Interpreter::Interpreter(const Template& parsed, Context* context, Resolve resolve)
    : template_(parsed), context_(context), resolve_(std::move(resolve)),
      outside_(parsed.names.size()), resolved_(parsed.names.size()) {}

bool Interpreter::Run(std::string* text, std::vector<ByteSpan>* input,
                      std::vector<ByteSpan>* generated) {
  Builder out(context_);
  out_ = root_out_ = &out;
  generated_ = generated;
  const Ref<Scope> root = NewScope(nullptr, template_.hidden);
  Flow flow = Flow::kNext;
  if (!ExecBody(template_.body, root.get(), &flow) || !CheckOutput()) return false;
  *text = std::move(out.bytes());
  *input = std::move(out.input());
  return true;
}

bool Interpreter::CheckOutput() {
  return !out_->overflow() || context_->Fail(kTooLong, Failure::kLimit);
}

Ref<Scope> Interpreter::NewScope(Scope* outer, const HiddenNames& hidden) {
  Ref<Scope> scope(new Scope(outer));
  for (const int name : hidden) scope->vars.emplace_back(name, Value());
  return scope;
}

// --- statements ---

bool Interpreter::ExecBody(const Body& body, Scope* scope, Flow* flow) {
  for (const auto& stmt : body) {
    if (!Exec(*stmt, scope, flow)) {
      if (error_line_ == 0) error_line_ = stmt->line;
      return false;
    }
    if (*flow != Flow::kNext) return true;
  }
  return true;
}

bool Interpreter::Exec(const Stmt& stmt, Scope* scope, Flow* flow) {
  if (!context_->Step() || !context_->CheckStack()) return false;
  switch (stmt.kind) {
    case StmtKind::kText:
      out_->Append(stmt.literal.str());
      return CheckOutput() && context_->Step(stmt.literal.text().size());
    case StmtKind::kOutput:
      return ExecOutput(stmt, scope);
    case StmtKind::kFor:
      return ExecFor(stmt, scope);
    case StmtKind::kIf:
      return ExecIf(stmt, scope, flow);
    case StmtKind::kSet: {
      Value value;
      return Eval(*stmt.expr, scope, &value) && Assign(*stmt.target, value, scope);
    }
    case StmtKind::kSetBlock:
      return ExecSetBlock(stmt, scope);
    case StmtKind::kMacro:
      return ExecMacro(stmt, scope);
    case StmtKind::kCallBlock:
      return ExecCallBlock(stmt, scope);
    case StmtKind::kFilterBlock:
      return ExecFilterBlock(stmt, scope);
    case StmtKind::kWith:
      return ExecWith(stmt, scope);
    case StmtKind::kScope:
      return ExecScope(stmt, scope);
    case StmtKind::kBreak:
      *flow = Flow::kBreak;
      return true;
    case StmtKind::kContinue:
      *flow = Flow::kContinue;
      return true;
    case StmtKind::kUnsupported:
      return context_->Fail(stmt.text);
  }
  return true;
}

bool Interpreter::ExecOutput(const Stmt& stmt, Scope* scope) {
  for (const auto& expr : stmt.outputs) {
    Value value;
    if (!Eval(*expr, scope, &value)) return false;
    if (value.string() && !context_->Step(value.text().size())) return false;
    if (!ToText(context_, value, out_) || !CheckOutput()) return false;
  }
  return true;
}

bool Interpreter::ExecIf(const Stmt& stmt, Scope* scope, Flow* flow) {
  Value test;
  if (!Eval(*stmt.expr, scope, &test)) return false;
  if (Truth(test)) return ExecBody(stmt.body, scope, flow);
  for (const auto& branch : stmt.elifs) {
    if (!Eval(*branch->expr, scope, &test)) return false;
    if (Truth(test)) return ExecBody(branch->body, scope, flow);
  }
  return ExecBody(stmt.other, scope, flow);
}

bool Interpreter::ExecSetBlock(const Stmt& stmt, Scope* scope) {
  Value text;
  if (!Capture(stmt.body, stmt.hidden, scope, &text)) return false;
  if (stmt.expr) {
    const Value* before = std::exchange(filtered_, &text);
    Value filtered;
    const bool good = Eval(*stmt.expr, scope, &filtered);
    filtered_ = before;
    if (!good) return false;
    text = std::move(filtered);
  }
  return Assign(*stmt.target, text, scope);
}

bool Interpreter::ExecFilterBlock(const Stmt& stmt, Scope* scope) {
  Value text;
  if (!Capture(stmt.body, stmt.hidden, scope, &text)) return false;
  const Value* before = std::exchange(filtered_, &text);
  Value filtered;
  const bool good = Eval(*stmt.expr, scope, &filtered);
  filtered_ = before;
  return good && ToText(context_, filtered, out_) && CheckOutput();
}

bool Interpreter::Capture(const Body& body, const HiddenNames& hidden, Scope* scope,
                          Value* text) {
  Builder builder(context_);
  Builder* before = std::exchange(out_, &builder);
  const Ref<Scope> inner = NewScope(scope, hidden);
  Flow flow = Flow::kNext;
  const bool good = ExecBody(body, inner.get(), &flow);
  out_ = before;
  return good && builder.Finish(text);
}

bool Interpreter::ExecScope(const Stmt& stmt, Scope* scope) {
  const Ref<Scope> inner = NewScope(scope, stmt.hidden);
  const size_t begin = out_->size();
  Flow flow = Flow::kNext;
  if (!ExecBody(stmt.body, inner.get(), &flow)) return false;
  // Offsets are only known for what is written directly, not through a macro or a set block.
  if (out_ == root_out_) generated_->push_back({begin, out_->size()});
  return true;
}

bool Interpreter::ExecWith(const Stmt& stmt, Scope* scope) {
  const Ref<Scope> inner = NewScope(scope, stmt.hidden);
  for (size_t i = 0; i < stmt.targets.size(); ++i) {
    Value value;
    if (!Eval(*stmt.outputs[i], scope, &value) ||
        !Assign(*stmt.targets[i], value, inner.get())) {
      return false;
    }
  }
  Flow flow = Flow::kNext;
  return ExecBody(stmt.body, inner.get(), &flow);
}

bool Interpreter::MakeMacro(const Stmt& stmt, Scope* scope, const std::string& name,
                            Value* out) {
  return context_->Adopt(Type::kObject, new MacroObject(this, stmt, scope, name),
                         sizeof(MacroObject), 0, out);
}

bool Interpreter::ExecMacro(const Stmt& stmt, Scope* scope) {
  Value macro;
  if (!MakeMacro(stmt, scope, stmt.text, &macro)) return false;
  scope->Set(stmt.name, std::move(macro));
  if (!scope->kept) {  // the scope now holds a macro that holds the scope
    scope->kept = true;
    context_->KeepScope(scope, [](Object* object) {
      std::vector<std::pair<int, Value>> gone;
      gone.swap(static_cast<Scope*>(object)->vars);
    });
  }
  return true;
}

bool Interpreter::ExecCallBlock(const Stmt& stmt, Scope* scope) {
  Value caller;
  Value result;
  return MakeMacro(stmt, scope, "caller", &caller) &&
         EvalCall(*stmt.expr, scope, &result, &caller) && ToText(context_, result, out_) &&
         CheckOutput();
}

bool Interpreter::CallMacro(const MacroObject& macro, Arguments* arguments, Value* result) {
  const Ref<Scope> scope = NewScope(macro.closure.get(), macro.stmt.hidden);
  if (!BindMacro(macro, arguments, scope.get())) return false;
  Builder builder(context_);
  Builder* before = std::exchange(out_, &builder);
  const Value* filtered_before = std::exchange(filtered_, nullptr);
  Flow flow = Flow::kNext;
  const bool good = ExecBody(macro.stmt.body, scope.get(), &flow);
  filtered_ = filtered_before;
  out_ = before;
  return good && builder.Finish(result);
}

bool Interpreter::BindMacro(const MacroObject& macro, Arguments* arguments, Scope* scope) {
  const Stmt& stmt = macro.stmt;
  auto& named = arguments->named;
  const auto take = [&](const std::string& name) {
    for (auto it = named.begin(); it != named.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      named.erase(it);
      return value;
    }
    return Value();
  };
  const size_t count = stmt.parameters.size();
  const size_t given = std::min(count, arguments->positional.size());
  bool takes_caller = stmt.takes_caller;
  for (size_t i = 0; i < count; ++i) {
    const int name = stmt.parameters[i].name;
    Value value = i < given ? arguments->positional[i] : take(template_.names[name]);
    if (name == template_.caller_name) takes_caller = false;
    scope->Set(name, std::move(value));
  }
  if (takes_caller) {
    Value caller = take("caller");
    if (caller.missing() || caller.none()) caller = context_->Undefined("No caller defined");
    scope->Set(template_.caller_name, std::move(caller));
  }
  if (stmt.takes_kwargs) {
    Value kwargs;
    Ref<Dict> dict(new Dict);
    for (auto& [name, value] : named) {
      const Value key = context_->Text(name);
      size_t hash = 0;
      if (!Hash(context_, key, &hash)) return false;
      dict->Insert(key, hash, std::move(value));
    }
    if (!context_->MakeDict(dict, &kwargs)) return false;
    scope->Set(template_.kwargs_name, std::move(kwargs));
  } else if (!named.empty()) {
    return context_->Fail("macro " + Quote(macro.name) + " takes no keyword argument " +
                          Quote(named[0].first));
  }
  if (stmt.takes_varargs) {
    Value varargs;
    std::vector<Value> rest(arguments->positional.begin() + given, arguments->positional.end());
    if (!context_->MakeList(std::move(rest), &varargs, Type::kTuple)) return false;
    scope->Set(template_.varargs_name, std::move(varargs));
  } else if (arguments->positional.size() > count) {
    return context_->Fail("macro " + Quote(macro.name) + " takes not more than " +
                          std::to_string(count) + " argument(s)");
  }
  // Defaults come last: they see every other argument.
  for (const auto& parameter : stmt.parameters) {
    if (!scope->Find(parameter.name)->missing()) continue;
    Value value;
    if (parameter.fallback) {
      if (!Eval(*parameter.fallback, scope, &value)) return false;
    } else {
      value = context_->Undefined("parameter '" + template_.names[parameter.name] +
                                  "' was not provided");
    }
    scope->Set(parameter.name, std::move(value));
  }
  return true;
}

bool Interpreter::Assign(const Expr& target, const Value& value, Scope* scope) {
  if (!context_->CheckStack()) return false;
  if (target.kind == ExprKind::kName) {
    scope->Set(target.name, value);
    return true;
  }
  if (target.kind == ExprKind::kNamespaceRef) {
    Value holder;
    if (!EvalName(target.name, scope, &holder)) return false;
    Namespace* space = holder.is(Type::kObject) ? holder.opaque().AsNamespace() : nullptr;
    if (space == nullptr) {
      return context_->Fail("cannot assign attribute on non-namespace object");
    }
    if (StartsWith(target.text, "_")) {
      return context_->Fail("a namespace cannot hold the private name " + Quote(target.text));
    }
    space->Set(target.text, value);
    return true;
  }
  std::vector<Value> items;
  if (value.none() || value.is(Type::kBool) || value.is(Type::kInt) || value.is(Type::kFloat)) {
    return context_->Fail(std::string("cannot unpack non-iterable ") + TypeName(value) +
                          " object");
  }
  if (!Collect(context_, value, &items)) return false;
  const size_t wanted = target.kids.size();
  if (items.size() != wanted) {
    return context_->Fail(
        items.size() > wanted
            ? Format("too many values to unpack (expected %zu)", wanted)
            : Format("not enough values to unpack (expected %zu, got %zu)", wanted, items.size()));
  }
  for (size_t i = 0; i < wanted; ++i) {
    if (!Assign(*target.kids[i], items[i], scope)) return false;
  }
  return true;
}

// --- loops ---

// The `if` of a for: lets pass what its test likes. Evaluated item by item, as the loop moves on.
class LoopFilter final : public Iterator {
 public:
  LoopFilter(Interpreter* interpreter, const Stmt& stmt, Scope* scope, Ref<Iterator> source)
      : interpreter_(interpreter), stmt_(stmt), scope_(scope), source_(std::move(source)) {}
  bool Next(Context* context, Value* item, bool* more) override {
    for (;;) {
      if (!context->Step() || !source_->Next(context, item, more)) return false;
      if (!*more) return true;
      const Ref<Scope> inner = interpreter_->NewScope(scope_.get(), {});
      Value passed;
      if (!interpreter_->Assign(*stmt_.target, *item, inner.get()) ||
          !interpreter_->Eval(*stmt_.filter, inner.get(), &passed)) {
        return false;
      }
      if (Truth(passed)) return true;
    }
  }

 private:
  Interpreter* interpreter_;
  const Stmt& stmt_;
  Ref<Scope> scope_;
  Ref<Iterator> source_;
};

bool Interpreter::ExecFor(const Stmt& stmt, Scope* scope) {
  Value iterable;
  return Eval(*stmt.expr, scope, &iterable) && RunLoop(stmt, scope, iterable, 0);
}

bool Interpreter::RunLoop(const Stmt& stmt, Scope* scope, const Value& iterable, int depth0) {
  Ref<Iterator> walk;
  if (!Iterate(context_, iterable, &walk)) return false;
  if (stmt.filter) walk = Ref<Iterator>(new LoopFilter(this, stmt, scope, std::move(walk)));

  Ref<LoopObject> loop;
  Value loop_value;
  if (stmt.uses_loop) {
    LoopObject::Recurse recurse;
    if (stmt.recursive) {
      const Ref<Scope> outer(scope);
      recurse = [this, &stmt, outer](const Value& inner, int depth, Value* text) {
        Builder builder(context_);
        Builder* before = std::exchange(out_, &builder);
        const bool good = RunLoop(stmt, outer.get(), inner, depth);
        out_ = before;
        return good && builder.Finish(text);
      };
    }
    loop = Ref<LoopObject>(new LoopObject(stmt.filter ? Value() : iterable, walk,
                                          std::move(recurse), depth0));
    if (!context_->Adopt(Type::kObject, loop.get(), sizeof(LoopObject), iterable.depth() + 1,
                         &loop_value)) {
      return false;
    }
  }

  bool any = false;
  Ref<Scope> inner;
  for (;;) {
    Value item;
    bool more = false;
    if (!context_->Step()) return false;
    if (!(loop ? loop->Advance(context_, &item, &more) : walk->Next(context_, &item, &more))) {
      return false;
    }
    if (!more) break;
    any = true;
    // A macro may have kept the last iteration's scope.
    if (!inner || inner->IsShared()) {
      inner = Ref<Scope>(new Scope(scope));
    } else {
      inner->vars.clear();
    }
    for (const int name : stmt.hidden) inner->vars.emplace_back(name, Value());
    if (loop) inner->Set(template_.loop_name, loop_value);
    Flow flow = Flow::kNext;
    if (!Assign(*stmt.target, item, inner.get()) || !ExecBody(stmt.body, inner.get(), &flow)) {
      return false;
    }
    if (flow == Flow::kBreak) break;
  }
  if (any || stmt.other.empty()) return true;
  const Ref<Scope> other = NewScope(scope, stmt.hidden_other);
  Flow flow = Flow::kNext;
  return ExecBody(stmt.other, other.get(), &flow);
}

// --- expressions ---

bool Interpreter::Eval(const Expr& expr, Scope* scope, Value* out) {
  if (expr.kind == ExprKind::kConst) {
    *out = expr.value;
    return true;
  }
  if (context_->Step() && context_->CheckStack() && EvalKind(expr, scope, out)) return true;
  if (error_line_ == 0) error_line_ = expr.line;
  return false;
}

bool Interpreter::EvalKind(const Expr& expr, Scope* scope, Value* out) {
  switch (expr.kind) {
    case ExprKind::kConst:
      *out = expr.value;
      return true;
    case ExprKind::kName:
    case ExprKind::kNamespaceRef:
      return EvalName(expr.name, scope, out);
    case ExprKind::kTuple:
    case ExprKind::kList:
      return EvalItems(expr, scope, out);
    case ExprKind::kDict:
      return EvalDict(expr, scope, out);
    case ExprKind::kCondition:
      return EvalCondition(expr, scope, out);
    case ExprKind::kAnd:
    case ExprKind::kOr:
      if (!Eval(*expr.kids[0], scope, out)) return false;
      return Truth(*out) == (expr.kind == ExprKind::kOr) || Eval(*expr.kids[1], scope, out);
    case ExprKind::kNot:
      if (!Eval(*expr.kids[0], scope, out)) return false;
      *out = Value::Bool(!Truth(*out));
      return true;
    case ExprKind::kCompare:
      return EvalCompare(expr, scope, out);
    case ExprKind::kArithmetic:
      return EvalBinary(expr, scope, out);
    case ExprKind::kNegative:
    case ExprKind::kPositive: {
      Value value;
      return Eval(*expr.kids[0], scope, &value) &&
             Negate(context_, value, expr.kind == ExprKind::kNegative, out);
    }
    case ExprKind::kConcat:
      return EvalConcat(expr, scope, out);
    case ExprKind::kAttribute: {
      Value object;
      return Eval(*expr.kids[0], scope, &object) &&
             GetAttribute(context_, object, expr.text, out);
    }
    case ExprKind::kItem:
      return EvalItem(expr, scope, out);
    case ExprKind::kSlice:
      return EvalSlice(expr, scope, out);
    case ExprKind::kCall:
      return EvalCall(expr, scope, out);
    case ExprKind::kFilter:
      return EvalFilter(expr, scope, out);
    case ExprKind::kTest:
      return EvalTest(expr, scope, out);
  }
  return true;
}

bool Interpreter::EvalName(int name, Scope* scope, Value* out) {
  for (Scope* at = scope; at != nullptr; at = at->parent.get()) {
    if (const Value* value = at->Find(name)) {
      *out = value->missing() ? context_->UndefinedName(template_.names[name]) : *value;
      return true;
    }
  }
  if (!resolved_[name]) {
    resolved_[name] = true;
    if (!resolve_(context_, template_.names[name], &outside_[name])) return false;
    if (outside_[name].missing()) outside_[name] = FindGlobal(template_.names[name]);
  }
  *out = outside_[name].missing() ? context_->UndefinedName(template_.names[name])
                                  : outside_[name];
  return true;
}

bool Interpreter::EvalItems(const Expr& expr, Scope* scope, Value* out) {
  std::vector<Value> items(expr.kids.size());
  for (size_t i = 0; i < items.size(); ++i) {
    if (!Eval(*expr.kids[i], scope, &items[i])) return false;
  }
  return context_->MakeList(std::move(items), out,
                            expr.kind == ExprKind::kTuple ? Type::kTuple : Type::kList);
}

bool Interpreter::EvalDict(const Expr& expr, Scope* scope, Value* out) {
  Ref<Dict> dict(new Dict);
  for (size_t i = 0; i < expr.kids.size(); i += 2) {
    Value key;
    Value value;
    size_t hash = 0;
    if (!Eval(*expr.kids[i], scope, &key) || !Eval(*expr.kids[i + 1], scope, &value) ||
        !Hash(context_, key, &hash)) {
      return false;
    }
    dict->Insert(std::move(key), hash, std::move(value));
  }
  return context_->MakeDict(dict, out);
}

bool Interpreter::EvalCondition(const Expr& expr, Scope* scope, Value* out) {
  Value test;
  if (!Eval(*expr.kids[0], scope, &test)) return false;
  if (Truth(test)) return Eval(*expr.kids[1], scope, out);
  if (expr.kids[2]) return Eval(*expr.kids[2], scope, out);
  *out = context_->Undefined("the inline if-expression on line " + std::to_string(expr.line) +
                             " evaluated to false and no else section was defined.");
  return true;
}

bool Interpreter::EvalCompare(const Expr& expr, Scope* scope, Value* out) {
  Value left;
  if (!Eval(*expr.kids[0], scope, &left)) return false;
  bool result = true;
  for (size_t i = 0; i < expr.compares.size() && result; ++i) {
    Value right;
    if (!Eval(*expr.kids[i + 1], scope, &right)) return false;
    const Relation relation = expr.compares[i];
    if (relation == Relation::kIn || relation == Relation::kNotIn) {
      if (!Contains(context_, right, left, &result)) return false;
      if (relation == Relation::kNotIn) result = !result;
    } else if (!CompareValues(context_, static_cast<Compare>(relation), left, right, &result)) {
      return false;
    }
    left = std::move(right);
  }
  *out = Value::Bool(result);
  return true;
}
static_assert(static_cast<int>(Relation::kGe) == static_cast<int>(Compare::kGe));

bool Interpreter::EvalConcat(const Expr& expr, Scope* scope, Value* out) {
  Builder builder(context_);
  for (const auto& kid : expr.kids) {
    Value value;
    if (!Eval(*kid, scope, &value) || !ToText(context_, value, &builder)) return false;
  }
  return builder.Finish(out);
}

bool Interpreter::EvalBinary(const Expr& expr, Scope* scope, Value* out) {
  Value left;
  Value right;
  return Eval(*expr.kids[0], scope, &left) && Eval(*expr.kids[1], scope, &right) &&
         Calculate(context_, expr.arithmetic, left, right, out);
}

bool Interpreter::EvalItem(const Expr& expr, Scope* scope, Value* out) {
  Value object;
  Value key;
  return Eval(*expr.kids[0], scope, &object) && Eval(*expr.kids[1], scope, &key) &&
         GetItem(context_, object, key, out);
}

bool Interpreter::EvalSlice(const Expr& expr, Scope* scope, Value* out) {
  Value parts[4];
  for (size_t i = 0; i < 4; ++i) {
    if (expr.kids[i] && !Eval(*expr.kids[i], scope, &parts[i])) return false;
  }
  return GetSlice(context_, parts[0], parts[1], parts[2], parts[3], out);
}

bool Interpreter::EvalArguments(const Expr& expr, Scope* scope, Arguments* arguments) {
  for (size_t i = 1; i < expr.kids.size(); ++i) {
    arguments->positional.emplace_back();
    if (!Eval(*expr.kids[i], scope, &arguments->positional.back())) return false;
  }
  for (const auto& [name, kid] : expr.named) {
    arguments->named.emplace_back(name, Value());
    if (!Eval(*kid, scope, &arguments->named.back().second)) return false;
  }
  if (expr.star) {
    Value list;
    if (!Eval(*expr.star, scope, &list) || !Collect(context_, list, &arguments->positional)) {
      return false;
    }
  }
  if (expr.star_star) {
    Value dict;
    if (!Eval(*expr.star_star, scope, &dict)) return false;
    if (!dict.is(Type::kDict)) return context_->Fail("argument after ** must be a mapping");
    if (dict.dict().items.size() > 1000) return context_->Fail("too many keyword arguments");
    for (const auto& [key, value] : dict.dict().items) {
      if (!key.string()) return context_->Fail("keywords must be strings");
      const auto same = [&, name = key.text()](const auto& pair) { return pair.first == name; };
      if (std::any_of(arguments->named.begin(), arguments->named.end(), same)) {
        return context_->Fail("got multiple values for keyword argument " + Quote(key.text()));
      }
      arguments->named.emplace_back(key.text(), value);
    }
  }
  return true;
}

bool Interpreter::EvalCall(const Expr& expr, Scope* scope, Value* out, const Value* caller) {
  const Expr& callee_expr = *expr.kids[0];
  Arguments arguments;
  Value callee;
  if (callee_expr.kind == ExprKind::kAttribute) {
    // A method that is called at once needs no object of its own.
    Value self;
    if (!Eval(*callee_expr.kids[0], scope, &self)) return false;
    if (const Method method = LookUpMethod(self, callee_expr.text)) {
      if (!EvalArguments(expr, scope, &arguments)) return false;
      if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
      return method(context_, self, arguments, out);
    }
    if (!GetAttribute(context_, self, callee_expr.text, &callee)) return false;
  } else if (!Eval(callee_expr, scope, &callee)) {
    return false;
  }
  if (!EvalArguments(expr, scope, &arguments)) return false;
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  return CallValue(context_, callee, &arguments, out);
}

bool Interpreter::EvalFilter(const Expr& expr, Scope* scope, Value* out) {
  if (expr.filter == nullptr) return context_->Fail("No filter named " + Quote(expr.text) + ".");
  Value value;
  if (expr.kids[0]) {
    if (!Eval(*expr.kids[0], scope, &value)) return false;
  } else {
    value = *filtered_;
  }
  Arguments arguments;
  return EvalArguments(expr, scope, &arguments) &&
         expr.filter->apply(context_, value, arguments, out);
}

bool Interpreter::EvalTest(const Expr& expr, Scope* scope, Value* out) {
  if (expr.test == nullptr) return context_->Fail("No test named " + Quote(expr.text) + ".");
  Value value;
  Arguments arguments;
  bool result = false;
  if (!Eval(*expr.kids[0], scope, &value) || !EvalArguments(expr, scope, &arguments) ||
      !expr.test->apply(context_, value, arguments, &result)) {
    return false;
  }
  *out = Value::Bool(result);
  return true;
}

}  // namespace lode::text::jinja
