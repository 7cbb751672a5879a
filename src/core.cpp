// kdna::compiled: the machine that plans are made for.
#include <kdna/core/machine.ipp>
#include <kdna/core/machine_detection.ipp>
