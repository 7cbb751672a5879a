// kdna::compiled: the published networks.
#include <kdna/models/zoo.ipp>
