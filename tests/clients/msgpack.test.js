import { clients } from "../lib/clients.js";
import { suite } from "./suite.js";

suite(clients.msgpack);
