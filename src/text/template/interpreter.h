// Walks a parsed template and writes its text. Internal.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/ast.h"
#include "text/template/context.h"

namespace lode::text::jinja {

// The variables of one scope of the template. Found by walking outwards.
class Scope final : public Object {
 public:
  explicit Scope(Scope* outer) : parent(outer) {}
  Value* Find(int name) {
    for (auto& [id, value] : vars) {
      if (id == name) return &value;
    }
    return nullptr;
  }
  void Set(int name, Value value) {
    if (Value* old = Find(name)) {
      *old = std::move(value);
    } else {
      vars.emplace_back(name, std::move(value));
    }
  }

  Ref<Scope> parent;
  std::vector<std::pair<int, Value>> vars;
  bool kept = false;  // registered with Context::KeepScope
};

class MacroObject;
class LoopObject;

class Interpreter {
 public:
  // Gives the template's free variable `name`; leaves *value missing when there is none.
  using Resolve = std::function<bool(Context*, const std::string& name, Value* value)>;

  Interpreter(const Template& parsed, Context* context, Resolve resolve);

  bool Run(std::string* text, std::vector<ByteSpan>* input, std::vector<ByteSpan>* generated);
  // Where the error of a failed run is.
  int error_line() const { return error_line_; }

 private:
  friend class MacroObject;
  friend class LoopObject;
  friend class LoopFilter;
  enum class Flow { kNext, kBreak, kContinue };

  // Statements.
  bool ExecBody(const Body& body, Scope* scope, Flow* flow);
  bool Exec(const Stmt& stmt, Scope* scope, Flow* flow);
  bool ExecOutput(const Stmt& stmt, Scope* scope);
  bool ExecIf(const Stmt& stmt, Scope* scope, Flow* flow);
  bool ExecFor(const Stmt& stmt, Scope* scope);
  bool RunLoop(const Stmt& stmt, Scope* scope, const Value& iterable, int depth0);
  bool ExecSetBlock(const Stmt& stmt, Scope* scope);
  bool ExecMacro(const Stmt& stmt, Scope* scope);
  bool ExecCallBlock(const Stmt& stmt, Scope* scope);
  bool ExecFilterBlock(const Stmt& stmt, Scope* scope);
  bool ExecWith(const Stmt& stmt, Scope* scope);
  bool ExecScope(const Stmt& stmt, Scope* scope);
  // Renders `body` in a new scope inside `scope`, into a string instead of the output.
  bool Capture(const Body& body, const HiddenNames& hidden, Scope* scope, Value* text);
  bool CallMacro(const MacroObject& macro, Arguments* arguments, Value* result);
  bool BindMacro(const MacroObject& macro, Arguments* arguments, Scope* scope);
  bool MakeMacro(const Stmt& stmt, Scope* scope, const std::string& name, Value* out);
  bool Assign(const Expr& target, const Value& value, Scope* scope);
  Ref<Scope> NewScope(Scope* outer, const HiddenNames& hidden);
  bool CheckOutput();

  // Expressions.
  bool Eval(const Expr& expr, Scope* scope, Value* out);
  bool EvalKind(const Expr& expr, Scope* scope, Value* out);
  bool EvalName(int name, Scope* scope, Value* out);
  bool EvalItems(const Expr& expr, Scope* scope, Value* out);
  bool EvalDict(const Expr& expr, Scope* scope, Value* out);
  bool EvalCondition(const Expr& expr, Scope* scope, Value* out);
  bool EvalCompare(const Expr& expr, Scope* scope, Value* out);
  bool EvalConcat(const Expr& expr, Scope* scope, Value* out);
  bool EvalBinary(const Expr& expr, Scope* scope, Value* out);
  bool EvalItem(const Expr& expr, Scope* scope, Value* out);
  bool EvalSlice(const Expr& expr, Scope* scope, Value* out);
  bool EvalCall(const Expr& expr, Scope* scope, Value* out, const Value* caller = nullptr);
  bool EvalFilter(const Expr& expr, Scope* scope, Value* out);
  bool EvalTest(const Expr& expr, Scope* scope, Value* out);
  bool EvalArguments(const Expr& expr, Scope* scope, Arguments* arguments);

  const Template& template_;
  Context* context_;
  Resolve resolve_;
  std::vector<Value> outside_;  // free variables by name, once asked for
  std::vector<bool> resolved_;
  Builder* out_ = nullptr;
  Builder* root_out_ = nullptr;
  std::vector<ByteSpan>* generated_ = nullptr;
  const Value* filtered_ = nullptr;  // the text of the filter block being applied
  int error_line_ = 0;
};

}  // namespace lode::text::jinja
