import { msgpack } from "../lib/clients.js";
import { suite } from "./suite.js";

suite(msgpack);
