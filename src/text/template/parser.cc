#include "text/template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <unordered_map>

#include "base/text.h"
#include "text/template/filters.h"
#include "text/template/lexer.h"
#include "text/template/scope_analysis.h"
#include "text/template/unicode.h"

namespace lode::text::jinja {
namespace {

// Python gives up at 200 nested brackets, so no template that works elsewhere comes near these.
constexpr int kNestingMax = 200;
constexpr int kExprDepthMax = 400;
constexpr size_t kNamedMax = 1000;  // of one call or macro

using Words = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)), out_(std::make_unique<Template>()) {
    out_->loop_name = Intern("loop");
    out_->caller_name = Intern("caller");
    out_->varargs_name = Intern("varargs");
    out_->kwargs_name = Intern("kwargs");
  }

  Result<std::unique_ptr<Template>> Run() {
    if (!ParseBody({}, &out_->body)) return std::move(*error_);
    AnalyzeScopes(out_.get());
    return std::move(out_);
  }

 private:
  // --- tokens ---

  const Token& Now() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void Advance() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool SkipName(std::string_view name) {
    if (!Now().IsName(name)) return false;
    Advance();
    return true;
  }
  bool SkipOp(std::string_view op) {
    if (!Now().IsOp(op)) return false;
    Advance();
    return true;
  }

  bool Fail(std::string message, int line = 0) {
    if (!error_) {
      error_.emplace(Code::kBadInput, "template line " +
                                          std::to_string(line > 0 ? line : Now().line) + ": " +
                                          message);
    }
    return false;
  }
  bool FailExpected(const std::string& what) {
    if (Now().kind == TokenKind::kEnd) {
      return Fail("unexpected end of template, expected '" + what + "'");
    }
    return Fail("expected token '" + what + "', got '" + Describe(Now()) + "'");
  }
  bool ExpectOp(std::string_view op) { return SkipOp(op) || FailExpected(std::string(op)); }
  bool ExpectName(std::string_view name) {
    return SkipName(name) || FailExpected(std::string(name));
  }
  bool ExpectBlockEnd() {
    if (Now().kind != TokenKind::kBlockEnd) return FailExpected("end of statement block");
    Advance();
    return true;
  }
  bool AnyName(std::string* name) {
    if (Now().kind != TokenKind::kName) return FailExpected("name");
    *name = Now().text;
    Advance();
    return true;
  }

  int Intern(const std::string& name) {
    const auto [it, added] = ids_.emplace(name, static_cast<int>(out_->names.size()));
    if (added) out_->names.push_back(name);
    mentions_.resize(out_->names.size());
    return it->second;
  }
  int Mention(const std::string& name) {
    const int id = Intern(name);
    ++mentions_[id];
    return id;
  }

  // --- nodes ---

  static ExprPtr New(ExprKind kind, int line) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    return expr;
  }

  // Measures a node once its kids are in place.
  bool Done(ExprPtr expr, ExprPtr* out) {
    int depth = 0;
    for (const auto& kid : expr->kids) {
      if (kid) depth = std::max(depth, kid->depth);
    }
    for (const auto& [name, kid] : expr->named) depth = std::max(depth, kid->depth);
    if (expr->star) depth = std::max(depth, expr->star->depth);
    if (expr->star_star) depth = std::max(depth, expr->star_star->depth);
    expr->depth = depth + 1;
    if (expr->depth > kExprDepthMax) return Fail("the expression is too long", expr->line);
    *out = std::move(expr);
    return true;
  }

  bool Constant(Value value, int line, ExprPtr* out) {
    auto expr = New(ExprKind::kConst, line);
    expr->value = std::move(value);
    return Done(std::move(expr), out);
  }

  static Value TextValue(std::string text) {
    auto* str = new Str;
    str->bytes = std::move(text);
    str->length = CountChars(str->bytes);
    return Value::Of(Type::kString, str);
  }

  // A level of nesting for the time that it lives.
  struct Level {
    explicit Level(Parser* parser) : parser(parser) { ++parser->nesting_; }
    ~Level() { --parser->nesting_; }
    bool TooDeep() {
      if (parser->nesting_ <= kNestingMax) return false;
      parser->Fail("the template is nested too deeply");
      return true;
    }
    Parser* parser;
  };

  // --- expressions, loosest first ---

  bool Expression(ExprPtr* out) {
    Level level(this);
    if (level.TooDeep()) return false;
    const int line = Now().line;
    if (!Or(out)) return false;
    while (SkipName("if")) {
      auto node = New(ExprKind::kCondition, line);
      node->kids.resize(3);
      node->kids[1] = std::move(*out);
      if (!Or(&node->kids[0])) return false;
      if (SkipName("else") && !Expression(&node->kids[2])) return false;
      if (!Done(std::move(node), out)) return false;
    }
    return true;
  }

  bool Or(ExprPtr* out) {
    if (!And(out)) return false;
    while (Now().IsName("or")) {
      if (!Binary(ExprKind::kOr, &Parser::And, out)) return false;
    }
    return true;
  }
  bool And(ExprPtr* out) {
    if (!Not(out)) return false;
    while (Now().IsName("and")) {
      if (!Binary(ExprKind::kAnd, &Parser::Not, out)) return false;
    }
    return true;
  }
  bool Not(ExprPtr* out) {
    if (!Now().IsName("not")) return Comparison(out);
    Level level(this);
    if (level.TooDeep()) return false;
    auto node = New(ExprKind::kNot, Now().line);
    Advance();
    node->kids.resize(1);
    return Not(&node->kids[0]) && Done(std::move(node), out);
  }

  // The operator's token is current; *out is its left side and becomes the whole.
  bool Binary(ExprKind kind, bool (Parser::*right)(ExprPtr*), ExprPtr* out,
              Arithmetic arithmetic = Arithmetic::kAdd) {
    auto node = New(kind, Now().line);
    node->arithmetic = arithmetic;
    Advance();
    node->kids.resize(2);
    node->kids[0] = std::move(*out);
    return (this->*right)(&node->kids[1]) && Done(std::move(node), out);
  }

  bool Comparison(ExprPtr* out) {
    if (!Sum(out)) return false;
    auto node = New(ExprKind::kCompare, Now().line);
    Relation relation;
    while (IsRelation(&relation)) {
      node->compares.push_back(relation);
      if (node->kids.empty()) node->kids.push_back(std::move(*out));
      node->kids.emplace_back();
      if (!Sum(&node->kids.back())) return false;
    }
    return node->kids.empty() || Done(std::move(node), out);
  }

  // Consumes the operator.
  bool IsRelation(Relation* relation) {
    static constexpr std::pair<std::string_view, Relation> kRelations[] = {
        {"==", Relation::kEq}, {"!=", Relation::kNe}, {"<", Relation::kLt},
        {"<=", Relation::kLe}, {">", Relation::kGt},  {">=", Relation::kGe}};
    for (const auto& [op, kind] : kRelations) {
      if (SkipOp(op)) {
        *relation = kind;
        return true;
      }
    }
    if (SkipName("in")) {
      *relation = Relation::kIn;
      return true;
    }
    if (Now().IsName("not") && Next().IsName("in")) {
      Advance();
      Advance();
      *relation = Relation::kNotIn;
      return true;
    }
    return false;
  }

  bool Sum(ExprPtr* out) {
    if (!Concat(out)) return false;
    for (;;) {
      const bool add = Now().IsOp("+");
      if (!add && !Now().IsOp("-")) return true;
      if (!Binary(ExprKind::kArithmetic, &Parser::Concat, out,
                  add ? Arithmetic::kAdd : Arithmetic::kSub)) {
        return false;
      }
    }
  }

  bool Concat(ExprPtr* out) {
    if (!Product(out)) return false;
    if (!Now().IsOp("~")) return true;
    auto node = New(ExprKind::kConcat, Now().line);
    node->kids.push_back(std::move(*out));
    while (SkipOp("~")) {
      node->kids.emplace_back();
      if (!Product(&node->kids.back())) return false;
    }
    return Done(std::move(node), out);
  }

  bool Product(ExprPtr* out) {
    static constexpr std::pair<std::string_view, Arithmetic> kOps[] = {
        {"*", Arithmetic::kMul},
        {"/", Arithmetic::kDiv},
        {"//", Arithmetic::kFloorDiv},
        {"%", Arithmetic::kMod}};
    if (!Power(out)) return false;
    for (;;) {
      const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                    [&](const auto& pair) { return Now().IsOp(pair.first); });
      if (op == std::end(kOps)) return true;
      if (!Binary(ExprKind::kArithmetic, &Parser::Power, out, op->second)) return false;
    }
  }

  bool Power(ExprPtr* out) {
    if (!UnaryWithFilters(out)) return false;
    while (Now().IsOp("**")) {  // from left to right, unlike Python
      if (!Binary(ExprKind::kArithmetic, &Parser::UnaryWithFilters, out, Arithmetic::kPow)) {
        return false;
      }
    }
    return true;
  }

  bool UnaryWithFilters(ExprPtr* out) { return Unary(true, out); }

  bool Unary(bool with_filters, ExprPtr* out) {
    const bool minus = Now().IsOp("-");
    if (minus || Now().IsOp("+")) {
      Level level(this);
      if (level.TooDeep()) return false;
      auto node = New(minus ? ExprKind::kNegative : ExprKind::kPositive, Now().line);
      Advance();
      node->kids.resize(1);
      if (!Unary(false, &node->kids[0]) || !Done(std::move(node), out)) return false;
    } else if (!Primary(false, out)) {
      return false;
    }
    return Postfix(out) && (!with_filters || FilterChain(out));
  }

  bool Postfix(ExprPtr* out) {
    for (;;) {
      if (Now().IsOp(".") || Now().IsOp("[")) {
        if (!Subscript(out)) return false;
      } else if (Now().IsOp("(")) {
        if (!Call(out)) return false;
      } else {
        return true;
      }
    }
  }

  bool FilterChain(ExprPtr* out) {
    for (;;) {
      if (Now().IsOp("|")) {
        Advance();
        if (!Filter(out)) return false;
      } else if (Now().IsName("is")) {
        if (!Test(out)) return false;
      } else if (Now().IsOp("(")) {
        if (!Call(out)) return false;
      } else {
        return true;
      }
    }
  }

  bool Primary(bool with_namespace, ExprPtr* out) {
    const Token token = Now();
    switch (token.kind) {
      case TokenKind::kName:
        Advance();
        return NameOrWord(token, with_namespace, out);
      case TokenKind::kString: {
        std::string text;
        for (; Now().kind == TokenKind::kString; Advance()) text += Now().text;
        return Constant(TextValue(std::move(text)), token.line, out);
      }
      case TokenKind::kInteger:
        Advance();
        return Constant(Value::OfInt(token.integer), token.line, out);
      case TokenKind::kFloat:
        Advance();
        return Constant(Value::Float(token.real), token.line, out);
      default:
        break;
    }
    if (SkipOp("(")) return Tuple({}, true, out, true) && ExpectOp(")");
    if (token.IsOp("[")) return ListLiteral(out);
    if (token.IsOp("{")) return DictLiteral(out);
    return Fail("unexpected '" + Describe(token) + "'");
  }

  bool NameOrWord(const Token& token, bool with_namespace, ExprPtr* out) {
    const std::string& name = token.text;
    if (name == "true" || name == "True") return Constant(Value::Bool(true), token.line, out);
    if (name == "false" || name == "False") return Constant(Value::Bool(false), token.line, out);
    if (name == "none" || name == "None") return Constant(Value::None(), token.line, out);
    auto node = New(ExprKind::kName, token.line);
    if (with_namespace && SkipOp(".")) {
      node->kind = ExprKind::kNamespaceRef;
      if (!AnyName(&node->text)) return false;
    }
    node->name = Mention(name);
    return Done(std::move(node), out);
  }

  // A tuple without brackets, or the single expression when no comma follows.
  bool Tuple(Words end_words, bool with_condition, ExprPtr* out, bool bracketed = false) {
    return Sequence(end_words, bracketed, out, [&](ExprPtr* item) {
      return with_condition ? Expression(item) : OrAsExpression(item);
    });
  }

  bool OrAsExpression(ExprPtr* out) {
    Level level(this);
    return !level.TooDeep() && Or(out);
  }

  template <typename ParseItem>
  bool Sequence(Words end_words, bool bracketed, ExprPtr* out, ParseItem parse_item) {
    auto node = New(ExprKind::kTuple, Now().line);
    bool is_tuple = false;
    for (;;) {
      if (!node->kids.empty() && !ExpectOp(",")) return false;
      if (AtTupleEnd(end_words)) break;
      node->kids.emplace_back();
      if (!parse_item(&node->kids.back())) return false;
      if (!Now().IsOp(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !node->kids.empty()) {
      *out = std::move(node->kids[0]);
      return true;
    }
    if (!is_tuple && !bracketed) {
      return Fail("expected an expression, got '" + Describe(Now()) + "'");
    }
    return Done(std::move(node), out);
  }

  bool AtTupleEnd(Words end_words) const {
    const TokenKind kind = Now().kind;
    if (kind == TokenKind::kOutputEnd || kind == TokenKind::kBlockEnd || Now().IsOp(")")) {
      return true;
    }
    return std::any_of(end_words.begin(), end_words.end(),
                       [&](std::string_view word) { return Now().IsName(word); });
  }

  bool ListLiteral(ExprPtr* out) {
    auto node = New(ExprKind::kList, Now().line);
    Advance();
    while (!Now().IsOp("]")) {
      if (!node->kids.empty() && !ExpectOp(",")) return false;
      if (Now().IsOp("]")) break;
      node->kids.emplace_back();
      if (!Expression(&node->kids.back())) return false;
    }
    return ExpectOp("]") && Done(std::move(node), out);
  }

  bool DictLiteral(ExprPtr* out) {
    auto node = New(ExprKind::kDict, Now().line);
    Advance();
    while (!Now().IsOp("}")) {
      if (!node->kids.empty() && !ExpectOp(",")) return false;
      if (Now().IsOp("}")) break;
      ExprPtr key;
      ExprPtr value;
      if (!Expression(&key) || !ExpectOp(":") || !Expression(&value)) return false;
      node->kids.push_back(std::move(key));
      node->kids.push_back(std::move(value));
    }
    return ExpectOp("}") && Done(std::move(node), out);
  }

  bool Subscript(ExprPtr* out) {
    const int line = Now().line;
    if (SkipOp(".")) {
      auto node = New(ExprKind::kAttribute, line);
      if (Now().kind == TokenKind::kInteger) {
        node->kind = ExprKind::kItem;
        node->kids.resize(2);
        node->kids[0] = std::move(*out);
        if (!Constant(Value::OfInt(Now().integer), line, &node->kids[1])) return false;
        Advance();
        return Done(std::move(node), out);
      }
      if (Now().kind != TokenKind::kName) return Fail("expected name or number");
      node->text = Now().text;
      Advance();
      node->kids.push_back(std::move(*out));
      return Done(std::move(node), out);
    }
    Advance();
    std::vector<ExprPtr> keys;
    while (!Now().IsOp("]")) {
      if (!keys.empty() && !ExpectOp(",")) return false;
      keys.emplace_back();
      if (!SubscriptKey(&keys.back())) return false;
    }
    Advance();
    ExprPtr key;
    if (keys.size() == 1) {
      key = std::move(keys[0]);
    } else {
      auto tuple = New(ExprKind::kTuple, line);
      for (const auto& each : keys) {
        if (IsOpenSlice(*each)) return Fail("a slice inside a tuple of keys", line);
      }
      tuple->kids = std::move(keys);
      if (!Done(std::move(tuple), &key)) return false;
    }
    if (IsOpenSlice(*key)) {
      key->kids[0] = std::move(*out);
      return Done(std::move(key), out);
    }
    auto node = New(ExprKind::kItem, line);
    node->kids.push_back(std::move(*out));
    node->kids.push_back(std::move(key));
    return Done(std::move(node), out);
  }

  // a[1:] as the key of something is a whole expression; 1: alone waits for its object.
  static bool IsOpenSlice(const Expr& key) {
    return key.kind == ExprKind::kSlice && key.kids[0] == nullptr;
  }

  // One key, or start:stop:step as a kSlice whose object is still to come.
  bool SubscriptKey(ExprPtr* out) {
    const int line = Now().line;
    ExprPtr start;
    if (!Now().IsOp(":")) {
      if (!Expression(&start)) return false;
      if (!Now().IsOp(":")) {
        *out = std::move(start);
        return true;
      }
    }
    Advance();
    auto node = New(ExprKind::kSlice, line);
    node->kids.resize(4);
    node->kids[1] = std::move(start);
    const auto at_end = [&] { return Now().IsOp("]") || Now().IsOp(",") || Now().IsOp(":"); };
    if (!at_end() && !Expression(&node->kids[2])) return false;
    if (SkipOp(":") && !at_end() && !Expression(&node->kids[3])) return false;
    return Done(std::move(node), out);
  }

  // "(...)": fills kids, named, star, star_star.
  bool CallArguments(Expr* node) {
    const int line = Now().line;
    if (!ExpectOp("(")) return false;
    bool first = true;
    const auto invalid = [&] {
      return Fail("invalid syntax for function call expression", line);
    };
    while (!Now().IsOp(")")) {
      if (!first) {
        if (!ExpectOp(",")) return false;
        if (Now().IsOp(")")) break;
      }
      first = false;
      if (SkipOp("*")) {
        if (node->star || node->star_star) return invalid();
        if (!Expression(&node->star)) return false;
      } else if (SkipOp("**")) {
        if (node->star_star) return invalid();
        if (!Expression(&node->star_star)) return false;
      } else if (Now().kind == TokenKind::kName && Next().IsOp("=")) {
        if (node->star_star) return invalid();
        std::string name = Now().text;
        Advance();
        Advance();
        if (node->named.size() >= kNamedMax) return Fail("too many keyword arguments", line);
        for (const auto& [other, value] : node->named) {
          if (other == name) return Fail("keyword argument repeated: " + Quote(name), line);
        }
        node->named.emplace_back(std::move(name), nullptr);
        if (!Expression(&node->named.back().second)) return false;
      } else {
        if (node->star || node->star_star || !node->named.empty()) return invalid();
        node->kids.emplace_back();
        if (!Expression(&node->kids.back())) return false;
      }
    }
    return ExpectOp(")");
  }

  bool Call(ExprPtr* out) {
    auto node = New(ExprKind::kCall, Now().line);
    node->kids.push_back(std::move(*out));
    return CallArguments(node.get()) && Done(std::move(node), out);
  }

  bool DottedName(std::string* name) {
    if (!AnyName(name)) return false;
    while (SkipOp(".")) {
      std::string part;
      if (!AnyName(&part)) return false;
      *name += "." + part;
    }
    return true;
  }

  // Behind "|"; *out is what is filtered (null in a filter block).
  bool Filter(ExprPtr* out) {
    auto node = New(ExprKind::kFilter, Now().line);
    if (!DottedName(&node->text)) return false;
    node->filter = FindFilter(node->text);
    node->kids.push_back(std::move(*out));
    if (Now().IsOp("(") && !CallArguments(node.get())) return false;
    return Done(std::move(node), out);
  }

  bool Test(ExprPtr* out) {
    auto node = New(ExprKind::kTest, Now().line);
    Advance();  // "is"
    const bool negated = SkipName("not");
    if (!DottedName(&node->text)) return false;
    node->test = FindTest(node->text);
    node->kids.push_back(std::move(*out));
    if (Now().IsOp("(")) {
      if (!CallArguments(node.get())) return false;
    } else if (AtTestArgument()) {
      if (Now().IsName("is")) return Fail("You cannot chain multiple tests with is");
      node->kids.emplace_back();
      Level level(this);
      if (level.TooDeep() || !Primary(false, &node->kids.back()) ||
          !Postfix(&node->kids.back())) {
        return false;
      }
    }
    if (!Done(std::move(node), out)) return false;
    if (!negated) return true;
    auto inverse = New(ExprKind::kNot, (*out)->line);
    inverse->kids.push_back(std::move(*out));
    return Done(std::move(inverse), out);
  }

  bool AtTestArgument() const {
    switch (Now().kind) {
      case TokenKind::kName:
        return !Now().IsName("else") && !Now().IsName("or") && !Now().IsName("and");
      case TokenKind::kString:
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return true;
      default:
        return Now().IsOp("[") || Now().IsOp("{");
    }
  }

  // --- statements ---

  // Statements until a block begins with one of `end_words`; that word is then current.
  bool ParseBody(Words end_words, Body* body) {
    Level level(this);
    if (level.TooDeep()) return false;
    for (;;) {
      switch (Now().kind) {
        case TokenKind::kEnd:
          return end_words.size() == 0 || FailUnclosed(end_words);
        case TokenKind::kText: {
          auto stmt = NewStmt(StmtKind::kText);
          stmt->literal = TextValue(Now().text);
          Advance();
          body->push_back(std::move(stmt));
          break;
        }
        case TokenKind::kOutputBegin: {
          auto stmt = NewStmt(StmtKind::kOutput);
          Advance();
          stmt->outputs.emplace_back();
          if (!Tuple({}, true, &stmt->outputs[0])) return false;
          if (Now().kind != TokenKind::kOutputEnd) return FailExpected("end of print statement");
          Advance();
          body->push_back(std::move(stmt));
          break;
        }
        case TokenKind::kBlockBegin: {
          Advance();
          for (const auto word : end_words) {
            if (Now().IsName(word)) return true;
          }
          if (!Statement(end_words, body) || !ExpectBlockEnd()) return false;
          break;
        }
        default:
          return Fail("unexpected '" + Describe(Now()) + "'");
      }
    }
  }

  bool FailUnclosed(Words end_words) {
    std::string message = "unexpected end of template; looking for ";
    bool first = true;
    for (const auto word : end_words) {
      message += (first ? "'" : " or '") + std::string(word) + "'";
      first = false;
    }
    if (!open_tags_.empty()) {
      message += " (the innermost open block is '" + open_tags_.back().first + "' of line " +
                 std::to_string(open_tags_.back().second) + ")";
    }
    return Fail(message);
  }

  std::unique_ptr<Stmt> NewStmt(StmtKind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = Now().line;
    return stmt;
  }

  // ": " may follow a tag, as in Python; then the body, up to and over its end word.
  bool TagBody(Words end_words, Body* body) {
    SkipOp(":");
    return ExpectBlockEnd() && ParseBody(end_words, body);
  }
  bool WholeBody(std::string_view end_word, Body* body) {
    if (!TagBody({end_word}, body)) return false;
    Advance();
    return true;
  }

  bool Statement(Words end_words, Body* body) {
    if (Now().kind != TokenKind::kName) return Fail("tag name expected");
    static constexpr std::pair<std::string_view, bool (Parser::*)(Stmt*)> kTags[] = {
        {"for", &Parser::For},          {"if", &Parser::If},
        {"set", &Parser::Set},          {"macro", &Parser::Macro},
        {"call", &Parser::CallBlock},   {"filter", &Parser::FilterBlock},
        {"with", &Parser::With},        {"generation", &Parser::Generation},
        {"block", &Parser::Block},      {"print", &Parser::Print},
        {"break", &Parser::LoopExit},   {"continue", &Parser::LoopExit},
        {"include", &Parser::OtherFile}, {"import", &Parser::OtherFile},
        {"from", &Parser::OtherFile},   {"extends", &Parser::OtherFile},
        {"autoescape", &Parser::AutoEscape}};
    for (const auto& [word, parse] : kTags) {
      if (!Now().IsName(word)) continue;
      auto stmt = NewStmt(StmtKind::kText);
      open_tags_.emplace_back(std::string(word), stmt->line);
      if (!(this->*parse)(stmt.get())) return false;
      open_tags_.pop_back();
      body->push_back(std::move(stmt));
      return true;
    }
    std::string message = "unknown tag '" + Describe(Now()) + "'";
    if (end_words.size() > 0) {
      message += "; looking for ";
      bool first = true;
      for (const auto word : end_words) {
        message += (first ? "'" : " or '") + std::string(word) + "'";
        first = false;
      }
    }
    return Fail(message);
  }

  // A name, namespace attribute, or tuple of them.
  bool Target(Words end_words, bool with_namespace, ExprPtr* out) {
    const int line = Now().line;
    return Sequence(end_words, false, out,
                    [&](ExprPtr* item) { return Primary(with_namespace, item); }) &&
           (CanAssign(**out) || Fail("can't assign to this expression", line));
  }
  static bool CanAssign(const Expr& expr) {
    if (expr.kind == ExprKind::kName || expr.kind == ExprKind::kNamespaceRef) return true;
    return expr.kind == ExprKind::kTuple &&
           std::all_of(expr.kids.begin(), expr.kids.end(),
                       [](const ExprPtr& kid) { return CanAssign(*kid); });
  }
  static bool Assigns(const Expr& target, int name) {
    if (target.kind == ExprKind::kName) return target.name == name;
    return std::any_of(target.kids.begin(), target.kids.end(),
                       [&](const ExprPtr& kid) { return Assigns(*kid, name); });
  }

  bool For(Stmt* stmt) {
    stmt->kind = StmtKind::kFor;
    Advance();
    if (!Target({"in"}, false, &stmt->target) || !ExpectName("in") ||
        !Tuple({"recursive"}, false, &stmt->expr)) {
      return false;
    }
    if (SkipName("if") && !Expression(&stmt->filter)) return false;
    stmt->recursive = SkipName("recursive");
    const int mentions = mentions_[out_->loop_name];
    ++loops_;
    const bool good = TagBody({"endfor", "else"}, &stmt->body);
    --loops_;
    if (!good) return false;
    stmt->uses_loop = stmt->recursive || mentions_[out_->loop_name] > mentions;
    if (stmt->uses_loop && Assigns(*stmt->target, out_->loop_name)) {
      return Fail("Can't assign to special loop variable in for-loop", stmt->line);
    }
    const bool has_else = Now().IsName("else");
    Advance();
    return !has_else || WholeBody("endfor", &stmt->other);
  }

  bool If(Stmt* stmt) {
    stmt->kind = StmtKind::kIf;
    Advance();
    Stmt* branch = stmt;
    for (;;) {
      if (!Tuple({}, false, &branch->expr) ||
          !TagBody({"elif", "else", "endif"}, &branch->body)) {
        return false;
      }
      if (!Now().IsName("elif")) break;
      auto next = NewStmt(StmtKind::kIf);
      Advance();
      branch = next.get();
      stmt->elifs.push_back(std::move(next));
    }
    const bool has_else = Now().IsName("else");
    Advance();
    return !has_else || WholeBody("endif", &stmt->other);
  }

  bool Set(Stmt* stmt) {
    Advance();
    if (!Target({}, true, &stmt->target)) return false;
    if (SkipOp("=")) {
      stmt->kind = StmtKind::kSet;
      return Tuple({}, true, &stmt->expr);
    }
    stmt->kind = StmtKind::kSetBlock;
    while (SkipOp("|")) {
      if (!Filter(&stmt->expr)) return false;
    }
    return WholeBody("endset", &stmt->body);
  }

  bool Signature(Stmt* stmt) {
    if (!ExpectOp("(")) return false;
    while (!Now().IsOp(")")) {
      if (!stmt->parameters.empty() && !ExpectOp(",")) return false;
      Parameter parameter;
      std::string name;
      if (!AnyName(&name)) return false;
      parameter.name = Intern(name);
      if (SkipOp("=")) {
        if (!Expression(&parameter.fallback)) return false;
      } else if (!stmt->parameters.empty() && stmt->parameters.back().fallback) {
        return Fail("non-default argument follows default argument");
      }
      if (stmt->parameters.size() >= kNamedMax) return Fail("too many parameters");
      for (const auto& other : stmt->parameters) {
        if (other.name == parameter.name) return Fail("duplicate argument " + Quote(name));
      }
      stmt->parameters.push_back(std::move(parameter));
    }
    return ExpectOp(")");
  }

  // The body of something callable; notes which special names it wants.
  bool MacroBody(std::string_view end_word, Stmt* stmt) {
    const int caller = mentions_[out_->caller_name];
    const int varargs = mentions_[out_->varargs_name];
    const int kwargs = mentions_[out_->kwargs_name];
    const int loops = std::exchange(loops_, 0);
    if (!WholeBody(end_word, &stmt->body)) return false;
    loops_ = loops;
    const auto is_parameter = [&](int name) {
      return std::any_of(stmt->parameters.begin(), stmt->parameters.end(),
                         [&](const Parameter& parameter) { return parameter.name == name; });
    };
    stmt->takes_caller = mentions_[out_->caller_name] > caller && !is_parameter(out_->caller_name);
    stmt->takes_varargs =
        mentions_[out_->varargs_name] > varargs && !is_parameter(out_->varargs_name);
    stmt->takes_kwargs = mentions_[out_->kwargs_name] > kwargs && !is_parameter(out_->kwargs_name);
    return true;
  }

  bool Macro(Stmt* stmt) {
    stmt->kind = StmtKind::kMacro;
    Advance();
    if (!AnyName(&stmt->text)) return false;
    stmt->name = Intern(stmt->text);
    return Signature(stmt) && MacroBody("endmacro", stmt);
  }

  bool CallBlock(Stmt* stmt) {
    stmt->kind = StmtKind::kCallBlock;
    Advance();
    if (Now().IsOp("(") && !Signature(stmt)) return false;
    if (!Expression(&stmt->expr)) return false;
    if (stmt->expr->kind != ExprKind::kCall) return Fail("expected call", stmt->line);
    return MacroBody("endcall", stmt);
  }

  bool FilterBlock(Stmt* stmt) {
    stmt->kind = StmtKind::kFilterBlock;
    Advance();
    do {
      if (!Filter(&stmt->expr)) return false;
    } while (SkipOp("|"));
    return WholeBody("endfilter", &stmt->body);
  }

  bool With(Stmt* stmt) {
    stmt->kind = StmtKind::kWith;
    Advance();
    while (Now().kind != TokenKind::kBlockEnd) {
      if (!stmt->targets.empty() && !ExpectOp(",")) return false;
      stmt->targets.emplace_back();
      stmt->outputs.emplace_back();
      if (!Target({}, false, &stmt->targets.back()) || !ExpectOp("=") ||
          !Expression(&stmt->outputs.back())) {
        return false;
      }
    }
    return WholeBody("endwith", &stmt->body);
  }

  bool Generation(Stmt* stmt) {
    stmt->kind = StmtKind::kScope;
    Advance();
    const int loops = std::exchange(loops_, 0);
    if (!WholeBody("endgeneration", &stmt->body)) return false;
    loops_ = loops;
    return true;
  }

  bool Block(Stmt* stmt) {
    stmt->kind = StmtKind::kScope;
    Advance();
    std::string name;
    if (!AnyName(&name)) return false;
    SkipName("scoped");
    SkipName("required");
    const int loops = std::exchange(loops_, 0);
    if (!WholeBody("endblock", &stmt->body)) return false;
    loops_ = loops;
    SkipName(name);
    return true;
  }

  bool Print(Stmt* stmt) {
    stmt->kind = StmtKind::kOutput;
    Advance();
    while (Now().kind != TokenKind::kBlockEnd) {
      if (!stmt->outputs.empty() && !ExpectOp(",")) return false;
      stmt->outputs.emplace_back();
      if (!Expression(&stmt->outputs.back())) return false;
    }
    return true;
  }

  bool LoopExit(Stmt* stmt) {
    stmt->kind = Now().IsName("break") ? StmtKind::kBreak : StmtKind::kContinue;
    if (loops_ == 0) return Fail("'" + Now().text + "' outside a loop");
    Advance();
    return true;
  }

  // Chat templates are one file; a tag that names another is only an error when it is reached.
  bool OtherFile(Stmt* stmt) {
    stmt->kind = StmtKind::kUnsupported;
    stmt->text = "a chat template cannot use another file ('" + Now().text + "')";
    while (Now().kind != TokenKind::kBlockEnd && Now().kind != TokenKind::kEnd) Advance();
    return true;
  }

  bool AutoEscape(Stmt*) { return Fail("{% autoescape %} is not supported"); }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::unique_ptr<Template> out_;
  std::unordered_map<std::string, int> ids_;
  std::vector<int> mentions_;  // by name id: how often the name was read or assigned so far
  std::vector<std::pair<std::string, int>> open_tags_;
  std::optional<Error> error_;
  int nesting_ = 0;
  int loops_ = 0;  // that enclose the current statement within its macro
};

// Unknown filters and tests are errors at once, except inside an if (of either kind): a template may
// guard one there with "is filter".
class NameCheck {
 public:
  bool Check(const Body& body, bool guarded) {
    return std::all_of(body.begin(), body.end(),
                       [&](const auto& stmt) { return CheckStmt(*stmt, guarded); });
  }
  const std::string& message() const { return message_; }

 private:
  bool CheckStmt(const Stmt& stmt, bool guarded) {
    const bool inside = stmt.kind == StmtKind::kIf;
    const bool expr_guarded = guarded || inside;
    for (const auto& output : stmt.outputs) {
      if (!CheckExpr(output.get(), guarded)) return false;
    }
    for (const auto& branch : stmt.elifs) {
      if (!CheckStmt(*branch, true)) return false;
    }
    for (const auto& parameter : stmt.parameters) {
      if (!CheckExpr(parameter.fallback.get(), false)) return false;
    }
    return CheckExpr(stmt.expr.get(), expr_guarded) && CheckExpr(stmt.filter.get(), false) &&
           Check(stmt.body, inside) && Check(stmt.other, inside);
  }

  bool CheckExpr(const Expr* expr, bool guarded) {
    if (expr == nullptr) return true;
    const bool filter = expr->kind == ExprKind::kFilter && expr->filter == nullptr;
    const bool test = expr->kind == ExprKind::kTest && expr->test == nullptr;
    if ((filter || test) && !guarded) {
      message_ = "template line " + std::to_string(expr->line) + ": no " +
                 (filter ? "filter" : "test") + " named " + Quote(expr->text);
      return false;
    }
    const bool inside = guarded || expr->kind == ExprKind::kCondition;
    for (const auto& kid : expr->kids) {
      if (!CheckExpr(kid.get(), inside)) return false;
    }
    for (const auto& [name, kid] : expr->named) {
      if (!CheckExpr(kid.get(), inside)) return false;
    }
    return CheckExpr(expr->star.get(), inside) && CheckExpr(expr->star_star.get(), inside);
  }

  std::string message_;
};

}  // namespace

Result<std::unique_ptr<Template>> ParseTemplate(std::string_view source) {
  LODE_ASSIGN(std::vector<Token> tokens, Tokenize(source));
  LODE_ASSIGN(std::unique_ptr<Template> parsed, Parser(std::move(tokens)).Run());
  NameCheck check;
  if (!check.Check(parsed->body, false)) return Error(Code::kBadInput, check.message());
  return parsed;
}

}  // namespace lode::text::jinja
