#include "bench/contexts_trace.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace lode::bench {
namespace {

using runtime::PointRole;
using Random = std::mt19937_64;

constexpr Token kStart = 1, kEnd = 2, kThink = 3, kThought = 4, kEffort = 5, kUser = 6,
                kAssistant = 7, kTool = 8, kSystemRole = 9;

// A stretch of text: ids that follow from a name.
struct Piece {
  uint64_t name = 0;
  int64_t tokens = 0;
};

Token Word(uint64_t name, int64_t index) {
  uint64_t hash = (name + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9 +
                  static_cast<uint64_t>(index) * 0x94d049bb133111eb;
  hash ^= hash >> 29;
  hash *= 0xbf58476d1ce4e5b9;
  hash ^= hash >> 32;
  return static_cast<Token>(100 + hash % 100000);
}

void Write(const Piece& piece, std::vector<Token>* out) {
  for (int64_t i = 0; i < piece.tokens; ++i) out->push_back(Word(piece.name, i));
}

struct Message {
  Token role = kUser;
  std::vector<Piece> body;
  Piece thoughts;  // of an assistant
};

class Conversation {
 public:
  std::vector<Piece> system;
  std::vector<Message> messages;
  bool effort_marker = false;

  void User(std::vector<Piece> body) { messages.push_back({kUser, std::move(body), {}}); }
  void ToolResult(Piece body) { messages.push_back({kTool, {body}, {}}); }

  // The request for the next reply; the reply becomes part of the conversation.
  SimRequest Ask(Piece thoughts, Piece reply, bool calls_tool) {
    SimRequest request;
    request.prompt = Render(messages, true);
    request.probes = Probes(request.prompt);
    Write(thoughts, &request.output);
    request.output.push_back(kThought);
    Write(reply, &request.output);
    request.output.push_back(kEnd);
    request.finish = calls_tool ? FinishReason::kToolCall : FinishReason::kStop;
    messages.push_back({kAssistant, {reply}, thoughts});
    return request;
  }

 private:
  std::vector<Token> Render(const std::vector<Message>& all, bool generation_prompt) const {
    std::vector<Token> out = {kStart, kSystemRole};
    for (const Piece& piece : system) Write(piece, &out);
    out.push_back(kEnd);
    size_t last_user = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].role == kUser) last_user = i;
    }
    for (size_t i = 0; i < all.size(); ++i) {
      out.insert(out.end(), {kStart, all[i].role});
      if (all[i].role == kAssistant) {
        out.push_back(kThink);
        if (i > last_user) Write(all[i].thoughts, &out);  // those of finished turns are dropped
        out.push_back(kThought);
      }
      for (const Piece& piece : all[i].body) Write(piece, &out);
      if (effort_marker && i == last_user) out.push_back(kEffort);
      out.push_back(kEnd);
    }
    if (generation_prompt) out.insert(out.end(), {kStart, kAssistant, kThink});
    return out;
  }

  // Renders again as it may look next time, and sees how much stays.
  std::vector<Probe> Probes(const std::vector<Token>& prompt) const {
    std::vector<Probe> probes;
    const auto add = [&](const std::vector<Message>& next, bool generate, PointRole role) {
      const std::vector<Token> other = Render(next, generate);
      const auto parted =
          std::mismatch(prompt.begin(), prompt.end(), other.begin(), other.end()).first;
      if (parted > prompt.begin()) probes.push_back({parted - prompt.begin(), role});
    };
    constexpr uint64_t kOther = ~uint64_t{0};
    const Message reply{kAssistant, {{kOther - 1, 8}}, {kOther - 2, 8}};
    std::vector<Message> next = messages;
    next.push_back(reply);
    next.push_back({kUser, {{kOther - 3, 8}}, {}});
    add(next, true, PointRole::kNextUser);
    next.back().role = kTool;
    add(next, true, PointRole::kNextTool);
    add({{kUser, {{kOther - 4, 8}}, {}}}, true, PointRole::kSystem);
    add(messages, false, PointRole::kRetry);
    for (size_t i = 1; i < messages.size(); ++i) {  // another text in an earlier turn's place
      if (messages[i].role != kUser) continue;
      std::vector<Message> edited(messages.begin(), messages.begin() + static_cast<int64_t>(i));
      edited.push_back({kUser, {{kOther - 5, 8}}, {}});
      add(edited, true, PointRole::kTurn);
    }
    return probes;
  }
};

// Draws everything of one trace.
class Writer {
 public:
  Writer(uint64_t seed, uint64_t kind) : random_(seed * 1000003 + kind) {}

  // About so many: from half to one and a half.
  int64_t About(int64_t tokens) { return tokens / 2 + Below(tokens + 1); }
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }
  double Wait(double mean) {  // exponential
    const double uniform = (static_cast<double>(random_() >> 11) + 1) * 0x1p-53;
    return -mean * std::log(uniform);
  }
  Piece Fresh(int64_t tokens) { return {random_(), tokens}; }

  void Add(SimRequest request, double arrival, int tenant) {
    request.arrival = arrival;
    request.tenant = tenant;
    requests.push_back(std::move(request));
  }

  std::vector<SimRequest> requests;

 private:
  Random random_;
};

Trace Sorted(std::string name, std::vector<SimRequest> requests) {
  std::stable_sort(
      requests.begin(), requests.end(),
      [](const SimRequest& a, const SimRequest& b) { return a.arrival < b.arrival; });
  return {std::move(name), std::move(requests)};
}

void Chat(Writer* w, double start, int tenant, bool effort_marker) {
  Conversation chat;
  chat.effort_marker = effort_marker;
  chat.system = {w->Fresh(500)};
  for (int turn = 0; turn < 30; ++turn) {
    chat.User({w->Fresh(w->About(150))});
    w->Add(chat.Ask(w->Fresh(w->About(300)), w->Fresh(w->About(300)), false), start, tenant);
    start += 10 + w->Wait(60);
  }
}

// Steps of one agent that calls tools until its last reply.
void Steps(Writer* w, Conversation* agent, int steps, int64_t result_tokens, double at,
           double wait, int tenant) {
  for (int step = 0; step < steps; ++step) {
    const bool last = step + 1 == steps;
    w->Add(agent->Ask(w->Fresh(w->About(100)), w->Fresh(w->About(last ? 400 : 60)), !last), at,
           tenant);
    agent->ToolResult(w->Fresh(w->About(result_tokens)));
    at += 5 + w->Wait(wait);
  }
}

void ToolLoops(Writer* w, double start, int tenant_first, int tenants) {
  const Piece system = w->Fresh(30000);  // instructions, tools, a map of the repository
  for (int user = 0; user < 4; ++user) {
    Conversation agent;
    agent.system = {system};
    agent.User({w->Fresh(w->About(300))});
    const int steps = 20 + static_cast<int>(w->Below(4));
    Steps(w, &agent, steps, 800, start + w->Wait(30), 15, (tenant_first + user) % tenants);
  }
}

void FanOut(Writer* w, double start, int tenant, int agents, bool document_in_system) {
  const Piece document = w->Fresh(40000);
  const Piece instructions = w->Fresh(500);
  for (int i = 0; i < agents; ++i) {
    Conversation agent;
    agent.system = {instructions};
    if (document_in_system) agent.system.push_back(document);
    const Piece question = w->Fresh(w->About(150));
    if (document_in_system) {
      agent.User({question});
    } else {
      agent.User({document, question});
    }
    Steps(w, &agent, 6, 450, start, 20, tenant);
  }
}

void Retrieval(Writer* w, double start, int tenant) {
  std::vector<Piece> documents;
  for (int i = 0; i < 200; ++i) documents.push_back(w->Fresh(w->About(430)));
  const Piece system = w->Fresh(600);
  for (int request = 0; request < 120; ++request) {
    Conversation chat;
    chat.system = {system};
    std::vector<Piece> body;
    while (body.size() < 8) {
      // Few documents are asked for often: rank by a power of a uniform number.
      const double uniform = static_cast<double>(w->Below(1 << 20)) / (1 << 20);
      const Piece& drawn = documents[static_cast<size_t>(200 * std::pow(uniform, 3.0))];
      const bool there = std::any_of(body.begin(), body.end(),
                                     [&](const Piece& each) { return each.name == drawn.name; });
      if (!there) body.push_back(drawn);
    }
    body.push_back(w->Fresh(w->About(60)));
    chat.User(body);
    w->Add(chat.Ask(w->Fresh(w->About(150)), w->Fresh(w->About(200)), false), start, tenant);
    start += w->Wait(20);
  }
}

void Branches(Writer* w, double start, int tenant) {
  Conversation chat;
  chat.system = {w->Fresh(500)};
  chat.User({w->Fresh(w->About(150))});
  std::vector<Conversation> before;  // each turn, as it was asked
  for (int request = 0; request < 68; ++request) {
    before.push_back(chat);
    w->Add(chat.Ask(w->Fresh(w->About(250)), w->Fresh(w->About(250)), false), start, tenant);
    start += 10 + w->Wait(60);
    const int64_t choice = w->Below(100);
    if (choice < 12) {
      chat = before.back();  // once more
      continue;
    }
    if (choice < 30) {  // the last message, edited
      chat = before.back();
      chat.messages.pop_back();
    } else if (choice < 42) {  // another way from an earlier turn
      chat = before[static_cast<size_t>(w->Below(static_cast<int64_t>(before.size())))];
      chat.messages.pop_back();
    }
    chat.User({w->Fresh(w->About(150))});
  }
}

void Assistant(Writer* w, double start, int tenant, bool clock, int requests) {
  const Piece head = w->Fresh(400);
  const Piece tail = w->Fresh(36600);
  const uint64_t clock_name = w->Fresh(0).name;
  Conversation assistant;
  int in_task = 0;
  for (int request = 0; request < requests; ++request) {
    const auto minute = static_cast<uint64_t>(start / 60);
    assistant.system = {head, {clock_name + (clock ? minute : 0), 3}, tail};
    if (in_task == 0) {
      assistant.User({w->Fresh(w->About(300))});
      in_task = 3 + static_cast<int>(w->Below(8));
    }
    --in_task;
    w->Add(assistant.Ask(w->Fresh(w->About(150)), w->Fresh(w->About(in_task == 0 ? 300 : 60)),
                         in_task > 0),
           start, tenant);
    if (in_task > 0) assistant.ToolResult(w->Fresh(w->About(800)));
    start += 5 + w->Wait(30);
  }
}

}  // namespace

int64_t Trace::prompt_tokens() const {
  int64_t sum = 0;
  for (const SimRequest& request : requests) sum += static_cast<int64_t>(request.prompt.size());
  return sum;
}

Trace ChatTrace(uint64_t seed, bool effort_marker) {
  Writer w(seed, 1);
  Chat(&w, 0, 0, effort_marker);
  return Sorted(effort_marker ? "chat, moving effort marker" : "chat, 30 turns", w.requests);
}

Trace ToolLoopTrace(uint64_t seed) {
  Writer w(seed, 2);
  ToolLoops(&w, 0, 0, 1);
  return Sorted("tool loop, 4 users", w.requests);
}

Trace FanOutTrace(uint64_t seed, int agents, bool document_in_system) {
  Writer w(seed, 3);
  FanOut(&w, 0, 0, agents, document_in_system);
  return Sorted("fan-out " + std::to_string(agents) +
                    (document_in_system ? ", document in system" : ", document in user turn"),
                w.requests);
}

Trace RetrievalTrace(uint64_t seed) {
  Writer w(seed, 4);
  Retrieval(&w, 0, 0);
  return Sorted("retrieval, 8 of 200 documents", w.requests);
}

Trace BranchTrace(uint64_t seed) {
  Writer w(seed, 5);
  Branches(&w, 0, 0);
  return Sorted("branch, edit, retry", w.requests);
}

Trace AssistantTrace(uint64_t seed, bool clock) {
  Writer w(seed, 6);
  Assistant(&w, 0, 0, clock, 60);
  return Sorted(clock ? "37k assistant, minute clock" : "37k assistant, no clock", w.requests);
}

Trace MixedTrace(uint64_t seed) {
  Writer w(seed, 7);
  constexpr int kTenants = 4;
  constexpr int64_t kStart = 2700;  // all begin within three quarters of an hour
  for (int i = 0; i < 6; ++i) {
    Chat(&w, static_cast<double>(w.Below(kStart)), i % kTenants, false);
  }
  ToolLoops(&w, static_cast<double>(w.Below(kStart)), 0, kTenants);
  FanOut(&w, static_cast<double>(w.Below(kStart)), 0, 16, true);
  FanOut(&w, static_cast<double>(w.Below(kStart)), 1, 16, false);
  Retrieval(&w, static_cast<double>(w.Below(kStart)), 2);
  for (int i = 0; i < 3; ++i) {
    Branches(&w, static_cast<double>(w.Below(kStart)), (i + 1) % kTenants);
  }
  for (int i = 0; i < 3; ++i) {
    Assistant(&w, static_cast<double>(w.Below(kStart)), (i + 2) % kTenants, i == 0, 40);
  }
  return Sorted("mixed tenants", w.requests);
}

// --- Recorded traces ---

namespace {

constexpr int64_t kTokensMax = int64_t{1} << 24;  // of a text

// Where a line stands, and how many tokens it may still have.
struct LineOf {
  int64_t number = 0, tokens_max = 0;
};

Result<std::vector<Token>> Ids(const Json* json, const char* what) {
  std::vector<Token> ids;
  if (json == nullptr || !json->is_array()) {
    return Error(Code::kBadInput, std::string(what) + " is not a list of token ids");
  }
  for (const Json& id : *json) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return Error(Code::kBadInput, std::string(what) + " has something that is no token id");
    }
    ids.push_back(static_cast<Token>(id.get<int64_t>()));
  }
  return ids;
}

// So many that no prompt will repeat, so nothing is taken for reusable that may not be.
void AddUnknown(int64_t index, int64_t count, std::vector<Token>* out) {
  const size_t first = out->size();
  Write({~static_cast<uint64_t>(index), count}, out);
  for (size_t i = first; i < out->size(); ++i) (*out)[i] = -2 - (*out)[i];
}

Result<void> ReadIds(const Json& line, const LineOf& of, SimRequest* request) {
  LODE_ASSIGN(request->prompt, Ids(FindKey(line, "prompt"), "prompt"));
  if (request->prompt.empty()) return Error(Code::kBadInput, "prompt is empty");
  const Json* output = FindKey(line, "output");
  if (output != nullptr && output->is_array()) {
    LODE_ASSIGN(request->output, Ids(output, "output"));
    return {};
  }
  const int64_t count = GetInt(line, "output", 0);
  if (count < 0 || count > std::min(kTokensMax, of.tokens_max)) {
    return Error(Code::kBadInput, "output is no sensible number of tokens");
  }
  AddUnknown(of.number, count, &request->output);
  return {};
}

Result<PointRole> RoleOf(const std::string& name) {
  for (int i = 0; i < runtime::kPointRoles; ++i) {
    const auto role = static_cast<PointRole>(i);
    if (name == runtime::Name(role)) return role;
  }
  return Error(Code::kBadInput, "a probe's role is not known: " + name);
}

// Blocks of hashes: equal ones stand for equal tokens behind equal ones. Which ids they get does
// not matter, so they follow from the hash.
Result<std::vector<Token>> IdsOfBlocks(const Json& line, int64_t tokens, int64_t prompt) {
  const auto list = [&](const char* name) -> Result<std::vector<uint64_t>> {
    std::vector<uint64_t> hashes;
    const Json* json = FindKey(line, name);
    for (const Json& hash : json != nullptr && json->is_array() ? *json : Json::array()) {
      if (!hash.is_number_integer()) {
        return Error(Code::kBadInput, std::string(name) + " has something that is no number");
      }
      hashes.push_back(hash.get<uint64_t>());
    }
    return hashes;
  };
  LODE_ASSIGN(std::vector<uint64_t> blocks, list("hash_ids"));
  LODE_ASSIGN(const std::vector<uint64_t> output, list("output_hash_ids"));
  // Other recorders do not say how long a block is, and give those of the prompt alone.
  int64_t size = GetInt(line, "block_tokens", 0);
  for (const int64_t usual : {16, 512}) {
    if (size == 0 && (prompt + usual - 1) / usual == std::ssize(blocks)) size = usual;
  }
  if (size < 1 || (prompt + size - 1) / size != std::ssize(blocks)) {
    return Error(Code::kBadInput, "hash_ids do not fit input_length");
  }
  if (!output.empty()) {  // they begin with the block in which the prompt ends
    blocks.resize(static_cast<size_t>(prompt / size));
    blocks.insert(blocks.end(), output.begin(), output.end());
  }
  std::vector<Token> ids;
  for (const uint64_t block : blocks) Write({block, size}, &ids);
  if (std::ssize(ids) < tokens && !output.empty()) {
    return Error(Code::kBadInput, "output_hash_ids do not fit output_length");
  }
  ids.resize(static_cast<size_t>(std::min(tokens, std::ssize(ids))));
  return ids;
}

Result<void> ReadBlocks(const Json& line, const LineOf& of, SimRequest* request) {
  const int64_t prompt = GetInt(line, "input_length", 0), output = GetInt(line, "output_length", 0);
  const int64_t most = std::min(kTokensMax, of.tokens_max);
  if (prompt < 1 || output < 0 || prompt > most || output > most - prompt) {
    return Error(Code::kBadInput, "input_length or output_length makes no sense");
  }
  const bool known = FindKey(line, "output_hash_ids") != nullptr;
  LODE_ASSIGN(std::vector<Token> ids,
              IdsOfBlocks(line, known ? prompt + output : prompt, prompt));
  request->prompt.assign(ids.begin(), ids.begin() + prompt);
  request->output.assign(ids.begin() + prompt, ids.end());
  if (!known) AddUnknown(of.number, output, &request->output);
  return {};
}

Result<SimRequest> ReadRequest(const Json& line, std::map<std::string, int>* tenants,
                               const LineOf& of) {
  SimRequest request;
  request.arrival = GetDouble(line, "arrival", static_cast<double>(of.number));
  if (FindKey(line, "timestamp") != nullptr) {
    request.arrival = GetDouble(line, "timestamp", 0.0) * 1e-3;
  }
  const Json* tenant = FindKey(line, "tenant");
  const std::string name = tenant == nullptr ? "" : DumpJson(*tenant);
  request.tenant = tenants->try_emplace(name, static_cast<int>(tenants->size())).first->second;
  if (FindKey(line, "hash_ids") != nullptr) {
    LODE_TRY(ReadBlocks(line, of, &request));
  } else {
    LODE_TRY(ReadIds(line, of, &request));
  }
  const std::string finish = GetString(line, "finish", "stop");
  if (finish == "tool_call") request.finish = FinishReason::kToolCall;
  if (finish == "length") request.finish = FinishReason::kLength;
  const Json* probes = FindKey(line, "probes");
  if (probes != nullptr && !probes->is_array()) {
    return Error(Code::kBadInput, "probes are no list");
  }
  for (const Json& probe : probes == nullptr ? Json::array() : *probes) {
    LODE_ASSIGN(const PointRole role, RoleOf(GetString(probe, "role", "")));
    const int64_t offset = GetInt(probe, "offset", 0);
    if (offset < 0) return Error(Code::kBadInput, "a probe's offset is below 0");
    request.probes.push_back({offset, role});
  }
  return request;
}

}  // namespace

Result<Trace> ParseTrace(std::string_view text, const std::string& name, int64_t tokens_max) {
  std::vector<SimRequest> requests;
  std::map<std::string, int> tenants;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = name + ":" + std::to_string(number);
    auto json = ParseJson(line);
    if (!json.ok()) return std::move(json.error().AddContext(where));
    auto request = ReadRequest(*json, &tenants, {number, tokens_max});
    if (!request.ok()) return std::move(request.error().AddContext(where));
    tokens_max -= std::ssize(request->prompt) + std::ssize(request->output);
    requests.push_back(std::move(request).value());
  }
  if (requests.empty()) return Error(Code::kBadInput, name + " holds no requests");
  return Sorted(name, std::move(requests));
}

Result<Trace> ReadTrace(const std::string& path) {
  LODE_ASSIGN(const std::string text, ReadFile(path, uint64_t{16} << 30));
  return ParseTrace(text, path, int64_t{1} << 32);
}

}  // namespace lode::bench
