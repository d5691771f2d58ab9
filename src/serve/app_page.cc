// The page, and the figures that it shows of the server.
#include <unistd.h>

#include <fstream>

#include "base/text.h"
#include "serve/app.h"
#include "serve/faults.h"
#include "serve/machine.h"
#include "serve/ui/page.h"

namespace lode::serve {

// 0 where the system does not say.
uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return file ? resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

std::string MachineMetrics(const std::optional<double>& joules) {
  std::string text = Format(
      "# HELP process_resident_memory_bytes Memory that the server occupies\n"
      "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %llu\n",
      static_cast<unsigned long long>(ResidentBytes()));
  if (joules) {
    text += Format(
        "# HELP lode_energy_joules_total Energy of processor and memory, the whole machine's\n"
        "# TYPE lode_energy_joules_total counter\nlode_energy_joules_total %.17g\n",
        *joules);
  }
  return text;
}

HttpResponse App::Page(const HttpRequest& request) {
  const PageFile* file = FindPageFile(request.path);
  if (file == nullptr) {
    return ErrorResponse(Dialect::kOpenAi, {Fault::kNoRoute, "the page has no such file"},
                         request.id);
  }
  HttpResponse response;
  response.content_type = file->content_type;
  response.headers = PageHeaders(*file);
  if (request.Header("if-none-match") == file->tag) {
    response.status = 304;
  } else {
    response.body = file->bytes;
  }
  return response;
}

HttpResponse App::Status(const HttpRequest&) {
  const chat::BackendLoad load = service_->backend().load();
  const chat::Usage totals = metrics_.totals();
  Json status = {
      {"model", options_.models.front()},
      {"version", options_.version},
      {"uptime_seconds", static_cast<int64_t>(std::time(nullptr)) - created_},
      {"running", load.running},
      {"waiting", load.waiting},
      {"connections", server_ == nullptr ? 0 : server_->connections()},
      {"tokens",
       {{"prompt", totals.prompt}, {"cached", totals.cached}, {"generated", totals.completion}}},
      {"guesses", {{"tried", load.drafted}, {"stood", load.accepted}}},
      {"memory",
       {{"resident", ResidentBytes()},
        {"state", load.bytes_committed},
        {"state_budget", load.bytes_budget},
        {"snapshots", load.snapshots}}}};
  if (const auto joules = energy_.Joules()) status["energy"] = {{"joules", *joules}};
  return Json200(status);
}

}  // namespace lode::serve
