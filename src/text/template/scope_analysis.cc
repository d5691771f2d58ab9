#include "text/template/scope_analysis.h"

#include <map>
#include <set>

namespace lode::text::jinja {
namespace {

// Where a name of a scope gets its first value from.
enum class Load { kParameter, kOutside, kUnset, kAlias };

struct Symbols {
  const Symbols* parent = nullptr;  // the scope outside
  const Symbols* before = nullptr;  // in a branch of an if: the same scope up to the if
  std::map<int, Load> known;        // every name this scope (or branch) refers to itself
  std::set<int> stores;

  bool Knows(int name) const {
    return known.count(name) > 0 || (before != nullptr && before->Knows(name));
  }
  bool Stores(int name) const {
    return stores.count(name) > 0 || (before != nullptr && before->Stores(name));
  }
  bool Finds(int name) const { return Knows(name) || (parent != nullptr && parent->Finds(name)); }
  void Read(int name) {
    if (!Finds(name)) known[name] = Load::kOutside;
  }
  void Store(int name) {
    stores.insert(name);
    if (Knows(name)) return;
    known[name] = parent != nullptr && parent->Finds(name) ? Load::kAlias : Load::kUnset;
  }
  void Declare(int name) {
    stores.insert(name);
    known[name] = Load::kParameter;
  }
};

class Analysis {
 public:
  explicit Analysis(Template* parsed) : parsed_(parsed) {}

  void Run() {
    Symbols root;
    Visit(parsed_->body, &root);
    Leave(root, &parsed_->hidden);
    Inner(parsed_->body, root);
    parsed_->free_names.assign(free_.begin(), free_.end());
  }

 private:
  // The scope is complete: note what it hides and what it wants from outside.
  void Leave(const Symbols& symbols, HiddenNames* hidden) {
    for (const auto& [name, load] : symbols.known) {
      if (load == Load::kUnset) hidden->push_back(name);
      if (load == Load::kOutside) free_.insert(name);
    }
  }

  // --- what a scope's own statements refer to, not entering inner scopes ---

  void Visit(const Body& body, Symbols* symbols) {
    for (const auto& stmt : body) VisitStmt(*stmt, symbols);
  }

  void VisitStmt(const Stmt& stmt, Symbols* symbols) {
    switch (stmt.kind) {
      case StmtKind::kOutput:
      case StmtKind::kWith:
        for (const auto& output : stmt.outputs) VisitExpr(output.get(), symbols);
        break;
      case StmtKind::kFor:
      case StmtKind::kCallBlock:
      case StmtKind::kFilterBlock:
        VisitExpr(stmt.expr.get(), symbols);
        break;
      case StmtKind::kIf:
        VisitIf(stmt, symbols);
        break;
      case StmtKind::kSet:
        VisitExpr(stmt.expr.get(), symbols);
        VisitTarget(*stmt.target, symbols, false);
        break;
      case StmtKind::kSetBlock:
        VisitTarget(*stmt.target, symbols, false);
        break;
      case StmtKind::kMacro:
        symbols->Store(stmt.name);
        break;
      default:
        break;
    }
  }

  // A name set in some branches only may also come from outside.
  void VisitIf(const Stmt& stmt, Symbols* symbols) {
    VisitExpr(stmt.expr.get(), symbols);
    Symbols branches[3];
    for (auto& branch : branches) {
      branch.parent = symbols->parent;
      branch.before = symbols;
    }
    Visit(stmt.body, &branches[0]);
    for (const auto& branch : stmt.elifs) VisitStmt(*branch, &branches[1]);
    Visit(stmt.other, &branches[2]);
    std::set<int> stores;
    for (const auto& branch : branches) {
      for (const int name : branch.stores) {
        if (!symbols->Stores(name)) stores.insert(name);
      }
    }
    for (const auto& branch : branches) {
      for (const auto& [name, load] : branch.known) symbols->known[name] = load;
      symbols->stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const int name : stores) {
      const bool outer = symbols->parent != nullptr && symbols->parent->Finds(name);
      symbols->known[name] = outer ? Load::kAlias : Load::kOutside;
    }
  }

  void VisitTarget(const Expr& target, Symbols* symbols, bool parameter) {
    if (target.kind == ExprKind::kName) {
      if (parameter) {
        symbols->Declare(target.name);
      } else {
        symbols->Store(target.name);
      }
    } else if (target.kind == ExprKind::kNamespaceRef) {
      symbols->Read(target.name);
    }
    for (const auto& kid : target.kids) VisitTarget(*kid, symbols, parameter);
  }

  void VisitExpr(const Expr* expr, Symbols* symbols) {
    if (expr == nullptr) return;
    if (expr->kind == ExprKind::kName) symbols->Read(expr->name);
    for (const auto& kid : expr->kids) VisitExpr(kid.get(), symbols);
    for (const auto& [name, kid] : expr->named) VisitExpr(kid.get(), symbols);
    VisitExpr(expr->star.get(), symbols);
    VisitExpr(expr->star_star.get(), symbols);
  }

  // --- the scopes inside ---

  void Inner(Body& body, const Symbols& outer) {
    for (auto& stmt : body) InnerStmt(stmt.get(), outer);
  }

  void InnerStmt(Stmt* stmt, const Symbols& outer) {
    switch (stmt->kind) {
      case StmtKind::kIf:
        Inner(stmt->body, outer);
        for (auto& branch : stmt->elifs) InnerStmt(branch.get(), outer);
        Inner(stmt->other, outer);
        return;
      case StmtKind::kFor:
        InnerFor(stmt, outer);
        return;
      case StmtKind::kMacro:
      case StmtKind::kCallBlock:
        InnerMacro(stmt, outer);
        return;
      case StmtKind::kWith: {
        Symbols symbols;
        symbols.parent = &outer;
        for (const auto& target : stmt->targets) VisitTarget(*target, &symbols, true);
        Scope(&stmt->body, &symbols, &stmt->hidden);
        return;
      }
      case StmtKind::kSetBlock:
      case StmtKind::kFilterBlock:
      case StmtKind::kScope: {
        Symbols symbols;
        symbols.parent = &outer;
        if (stmt->kind == StmtKind::kSetBlock) VisitExpr(stmt->expr.get(), &symbols);
        Scope(&stmt->body, &symbols, &stmt->hidden);
        return;
      }
      default:
        return;
    }
  }

  void Scope(Body* body, Symbols* symbols, HiddenNames* hidden) {
    Visit(*body, symbols);
    Leave(*symbols, hidden);
    Inner(*body, *symbols);
  }

  void InnerFor(Stmt* stmt, const Symbols& outer) {
    if (stmt->filter) {
      Symbols symbols;
      symbols.parent = &outer;
      VisitTarget(*stmt->target, &symbols, true);
      VisitExpr(stmt->filter.get(), &symbols);
      HiddenNames none;
      Leave(symbols, &none);
    }
    Symbols symbols;
    symbols.parent = &outer;
    if (stmt->uses_loop) symbols.Declare(parsed_->loop_name);
    VisitTarget(*stmt->target, &symbols, true);
    Scope(&stmt->body, &symbols, &stmt->hidden);
    Symbols other;
    other.parent = &outer;
    Scope(&stmt->other, &other, &stmt->hidden_other);
  }

  void InnerMacro(Stmt* stmt, const Symbols& outer) {
    Symbols symbols;
    symbols.parent = &outer;
    for (const auto& parameter : stmt->parameters) symbols.Declare(parameter.name);
    for (const auto& parameter : stmt->parameters) {
      VisitExpr(parameter.fallback.get(), &symbols);
    }
    if (stmt->takes_caller) symbols.Declare(parsed_->caller_name);
    if (stmt->takes_kwargs) symbols.Declare(parsed_->kwargs_name);
    if (stmt->takes_varargs) symbols.Declare(parsed_->varargs_name);
    Scope(&stmt->body, &symbols, &stmt->hidden);
  }

  Template* parsed_;
  std::set<int> free_;
};

}  // namespace

void AnalyzeScopes(Template* parsed) { Analysis(parsed).Run(); }

}  // namespace lode::text::jinja
