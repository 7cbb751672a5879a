// kdna::compiled: files.
#include <kdna/io/dtype.ipp>
#include <kdna/io/file.ipp>
#include <kdna/io/foreign_file.ipp>
#include <kdna/io/json.ipp>
#include <kdna/io/machine_file.ipp>
#include <kdna/io/npy.ipp>
#include <kdna/io/safetensors.ipp>
#include <kdna/io/shard_index.ipp>
#include <kdna/io/state_dict.ipp>
#include <kdna/io/to_float32.ipp>
