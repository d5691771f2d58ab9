// A parsed template. Immutable once made, and shared by the threads that render it. Internal.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/template/ops.h"
#include "text/template/value.h"

namespace lode::text::jinja {

struct FilterDef;
struct TestDef;

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class ExprKind {
  kConst,
  kName,
  kNamespaceRef,  // ns.x as a target
  kTuple,
  kList,
  kDict,        // kids: key, value, key, value, ...
  kCondition,   // kids: test, then, else (may be null)
  kAnd,
  kOr,
  kNot,
  kCompare,     // kids: first, then one per operand of `compares`
  kArithmetic,  // kids: left, right
  kNegative,
  kPositive,
  kConcat,
  kAttribute,   // kids: object; `text` is the name
  kItem,        // kids: object, key
  kSlice,       // kids: object, start, stop, step (each may be null)
  kCall,        // kids: callee, then positional arguments
  kFilter,      // kids: value (null in a filter block), then positional arguments
  kTest,        // kids: value, then positional arguments
};

// What a comparison chain holds at each place.
enum class Relation { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr {
  ExprKind kind = ExprKind::kConst;
  int line = 0;
  int depth = 1;
  int name = -1;     // kName, kNamespaceRef: index into Template::names
  std::string text;  // attribute, filter or test name
  Value value;       // kConst
  Arithmetic arithmetic = Arithmetic::kAdd;
  std::vector<Relation> compares;
  std::vector<ExprPtr> kids;
  std::vector<std::pair<std::string, ExprPtr>> named;  // keyword arguments
  ExprPtr star;                                        // *list
  ExprPtr star_star;                                   // **dict
  const FilterDef* filter = nullptr;                   // null: unknown, an error when reached
  const TestDef* test = nullptr;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

enum class StmtKind {
  kText,
  kOutput,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,  // {% generation %}, {% block %}: renders its body in a scope of its own
  kBreak,
  kContinue,
  kUnsupported,  // parsed, but an error when reached: include, import, extends
};

// Names that a scope sets before it reads them: inside it they hide what lies outside, even before
// they are set (Jinja decides this when it compiles).
using HiddenNames = std::vector<int>;

struct Parameter {
  int name = -1;
  ExprPtr fallback;
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  int line = 0;
  std::string text;              // kText; name of a macro; message of kUnsupported
  Value literal;                 // kText
  std::vector<ExprPtr> outputs;  // kOutput; values of kWith
  std::vector<ExprPtr> targets;  // kWith
  ExprPtr target;                // kFor, kSet, kSetBlock
  ExprPtr expr;                  // iterable, value, test, call, filter chain
  ExprPtr filter;                // the `if` of a for
  bool recursive = false;
  bool uses_loop = false;        // the body mentions `loop`
  Body body;
  Body other;                    // else
  std::vector<std::unique_ptr<Stmt>> elifs;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;
  bool takes_kwargs = false;
  bool takes_caller = false;
  int name = -1;                 // of the macro
  HiddenNames hidden;            // of the body's scope
  HiddenNames hidden_other;      // of the else branch's scope
};

struct Template {
  std::vector<std::string> names;
  Body body;
  HiddenNames hidden;
  std::vector<int> free_names;  // read somewhere without being set there
  int loop_name = -1;
  int caller_name = -1;
  int varargs_name = -1;
  int kwargs_name = -1;
};

}  // namespace lode::text::jinja
