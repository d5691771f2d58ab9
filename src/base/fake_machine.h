// For tests: a folder that looks like a machine's /proc and /sys, removed at the end.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace lode {

class FakeMachine {
 public:
  FakeMachine() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lode-machine-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~FakeMachine() { std::filesystem::remove_all(root_); }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  const std::string& root() const { return root_; }

  void Write(const std::string& path, const std::string& content) const {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content;
  }

  // A CPU as the kernel describes it.
  void AddCpu(int id, const std::string& siblings, const std::string& cache_sharers) const {
    const std::string folder = "sys/devices/system/cpu/cpu" + std::to_string(id);
    Write(folder + "/topology/thread_siblings_list", siblings + "\n");
    Write(folder + "/cache/index0/level", "1\n");
    Write(folder + "/cache/index0/shared_cpu_list", siblings + "\n");
    Write(folder + "/cache/index3/level", "3\n");
    Write(folder + "/cache/index3/shared_cpu_list", cache_sharers + "\n");
  }
  void AddNode(int id, const std::string& cpus) const {
    Write("sys/devices/system/node/node" + std::to_string(id) + "/cpulist", cpus + "\n");
  }

 private:
  std::string root_;
};

}  // namespace lode
