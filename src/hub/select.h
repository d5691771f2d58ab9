// Which files of a model a pull takes: the ones asked for, else the one kind of weights that Lode
// reads and what belongs to it. No network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace lode::hub {

struct RemoteFile {
  std::string name;
  uint64_t size = 0;
  bool size_known = false;
  std::string hash;  // hex: SHA-256, or git's for files of the git tree; empty if not known
};

struct Selection {
  std::string model;                 // ORG/NAME, for messages
  std::string file;                  // one file (with the other parts of a split one), or empty
  std::vector<std::string> include;  // shell patterns; '*' also matches '/'
};

// In the order of `files`. Without wishes: the safetensors checkpoint with its configuration, else
// the only .gguf (all parts of it), each with the small text files beside it.
// Errors: kBadInput when there are several .gguf to choose from (all are named); kNotFound when
// nothing fits the wish, or there are no weights.
Result<std::vector<RemoteFile>> SelectFiles(const std::vector<RemoteFile>& files,
                                            const Selection& selection);

}  // namespace lode::hub
